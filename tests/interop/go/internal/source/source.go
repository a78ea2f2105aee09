// Package source makes bytes of a known length and content without a file, for both ends of a test.
package source

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Zeros yields n zero bytes.
func Zeros(n int64) io.Reader { return io.LimitReader(zeros{}, n) }

// Random yields n bytes that depend on seed alone: the keystream of AES-128 in counter mode, its key the first 16
// bytes of the SHA-256 of seed, its counter starting at zero. It was chosen because any language makes it at the
// speed of memory, so the generator never is the brake; support/gopeers.py has the same in Python.
func Random(n int64, seed string) io.Reader {
	key := sha256.Sum256([]byte(seed))
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		panic(err) // only a wrong key length can cause it
	}
	return io.LimitReader(cipher.StreamReader{S: cipher.NewCTR(block, make([]byte, 16)), R: zeros{}}, n)
}

// Parse reads "zero:N" and "random:N:SEED". ok is false when text has neither form.
func Parse(text string) (r io.Reader, ok bool, err error) {
	kind, rest, _ := strings.Cut(text, ":")
	switch kind {
	case "zero":
		n, err := Length(rest)
		return Zeros(n), true, err
	case "random":
		count, seed, found := strings.Cut(rest, ":")
		if !found {
			return nil, true, fmt.Errorf("expected random:N:SEED, got %q", text)
		}
		n, err := Length(count)
		return Random(n, seed), true, err
	}
	return nil, false, nil
}

// Length reads a byte count: a decimal number that is not negative.
func Length(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("expected a byte count, got %q", text)
	}
	return n, nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
