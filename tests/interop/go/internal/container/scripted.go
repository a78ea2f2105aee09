package container

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"kubewire.invalid/interop/internal/source"
)

// copyUnit is the unit of io.Copy, thus of nearly every DATA frame that a real kubelet sends.
const copyUnit = 32 << 10

// scripted is every command that runs inside this process. README.md lists them for the tests' authors.
var scripted map[string]Command

func init() {
	scripted = map[string]Command{
		"echo":         echo,
		"cat":          cat,
		"source":       zeroSource,
		"random":       randomSource,
		"sink":         sink,
		"discard":      discard,
		"take":         take,
		"sleep":        sleep,
		"true":         succeed,
		"false":        exitWithOne,
		"exit":         exit,
		"both":         both,
		"ignore-stdin": sleep, // the same: it never reads stdin
		"early-exit":   earlyExit,
		"sizes":        sizes,
		"fail":         fail,
		"vanish":       vanish,
		"cut":          cut,
	}
}

func echo(_ context.Context, s *Streams, args []string) error {
	_, err := io.WriteString(s.Out, strings.Join(args, " ")+"\n")
	return err
}

func succeed(context.Context, *Streams, []string) error { return nil }

func exitWithOne(context.Context, *Streams, []string) error { return exited([]string{"false"}, 1) }

func cat(_ context.Context, s *Streams, _ []string) error { return pump(s.Out, s.In) }

func zeroSource(_ context.Context, s *Streams, args []string) error {
	n, err := count(args, 1)
	if err != nil {
		return err
	}
	buffer := make([]byte, copyUnit)
	for ; n > 0 && err == nil; n -= copyUnit {
		_, err = s.Out.Write(buffer[:min(n, copyUnit)])
	}
	return err
}

func randomSource(_ context.Context, s *Streams, args []string) error {
	n, err := count(args, 2)
	if err != nil {
		return err
	}
	return pump(s.Out, source.Random(n, args[1]))
}

func sink(_ context.Context, s *Streams, _ []string) error {
	digest := sha256.New()
	n, err := io.CopyBuffer(digest, s.In, make([]byte, copyUnit))
	if err == nil {
		_, err = fmt.Fprintf(s.Out, "%d %s\n", n, hex.EncodeToString(digest.Sum(nil)))
	}
	return err
}

func discard(_ context.Context, s *Streams, _ []string) error {
	// Not io.Discard: its ReadFrom would read 8 KiB at a time.
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, s.In, make([]byte, copyUnit))
	if err == nil {
		_, err = fmt.Fprintf(s.Out, "%d\n", n)
	}
	return err
}

// take reads as many bytes as it was told, and ends: over a WebSocket before v5 stdin itself has no end.
func take(_ context.Context, s *Streams, args []string) error {
	wanted, err := count(args, 1)
	if err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(s.In, wanted), make([]byte, copyUnit))
	if err == nil {
		_, err = fmt.Fprintf(s.Out, "%d\n", n)
	}
	return err
}

// sleep outlives a client that leaves, as the processes of a real container do.
func sleep(_ context.Context, _ *Streams, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("expected a number of seconds, got %q", args)
	}
	seconds, err := strconv.ParseFloat(args[0], 64)
	if err == nil {
		time.Sleep(time.Duration(seconds * float64(time.Second)))
	}
	return err
}

// exit takes any number, also those that are no exit code, so that a client meets them.
func exit(_ context.Context, _ *Streams, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("expected an exit code, got %q", args)
	}
	code, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	return exited([]string{"exit", args[0]}, code)
}

func both(_ context.Context, s *Streams, args []string) error {
	n, err := count(args, 1)
	for i := int64(0); i < n && err == nil; i++ {
		if _, err = fmt.Fprintf(s.Out, "out %d\n", i); err == nil {
			_, err = fmt.Fprintf(s.Err, "err %d\n", i)
		}
	}
	return err
}

func earlyExit(_ context.Context, s *Streams, args []string) error {
	n, err := count(args, 1)
	if err == nil {
		_, err = io.CopyN(io.Discard, s.In, n)
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("stdin ended before %d bytes", n)
	}
	return err
}

func sizes(_ context.Context, s *Streams, args []string) error {
	n, err := count(args, 1)
	if err == nil && s.Resizes == nil {
		return errors.New("this session has no resize stream")
	}
	for i := int64(0); i < n && err == nil; i++ {
		size, open := <-s.Resizes
		if !open {
			return fmt.Errorf("resizes ended after %d of %d", i, n)
		}
		_, err = fmt.Fprintf(s.Out, "%dx%d\n", size.Width, size.Height)
	}
	return err
}

func fail(_ context.Context, _ *Streams, args []string) error {
	return errors.New(strings.Join(args, " "))
}

// vanish writes its arguments and ends the session in good order, but with no status: what a client sees when a
// kubelet's exec handler dies. The server's own deferred close sends RST_STREAM and GOAWAY while the panic unwinds.
func vanish(ctx context.Context, s *Streams, args []string) error {
	if err := echo(ctx, s, args); err != nil {
		return err
	}
	panic(http.ErrAbortHandler)
}

// cut writes N zero bytes and closes the connection under everything: no status, no GOAWAY, no close_notify.
func cut(ctx context.Context, s *Streams, args []string) error {
	if err := zeroSource(ctx, s, args); err != nil {
		return err
	}
	return s.Conn.Close()
}

func pump(w io.Writer, r io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, copyUnit))
	return err
}

// count reads the byte or line count that is the first of exactly want arguments.
func count(args []string, want int) (int64, error) {
	if len(args) != want {
		return 0, fmt.Errorf("expected %d arguments, got %q", want, args)
	}
	return source.Length(args[0])
}
