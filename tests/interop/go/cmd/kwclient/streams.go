package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"kubewire.invalid/interop/internal/source"
)

// summary is what came out of one output; SHA256 is empty when it was only counted.
type summary struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// input is a session's stdin. client-go may go on reading it after the session has ended, hence the atomic count.
type input struct {
	source io.Reader // nil: no stdin
	count  atomic.Int64
	close  func() error
	done   chan struct{} // closed with the session
}

func openInput(spec string) (*input, error) {
	in := &input{close: func() error { return nil }, done: make(chan struct{})}
	text, held := strings.CutPrefix(spec, "hold:")
	switch {
	case spec == "none":
	case spec == "-":
		in.source = os.Stdin
	case spec == "hold" || held:
		if !held {
			text = ""
		}
		in.source = io.MultiReader(strings.NewReader(text), holdReader{in.done})
	default:
		generated, ok, err := source.Parse(spec)
		if err != nil {
			return nil, err
		}
		if in.source = generated; !ok {
			file, err := os.Open(spec)
			if err != nil {
				return nil, err
			}
			in.source, in.close = file, file.Close
		}
	}
	return in, nil
}

// reader returns nil, not an empty reader, without stdin: the executor then opens no stream for it.
func (in *input) reader() io.Reader {
	if in.source == nil {
		return nil
	}
	return in
}

func (in *input) Read(p []byte) (int, error) {
	n, err := in.source.Read(p)
	in.count.Add(int64(n))
	return n, err
}

func (in *input) Close() error {
	close(in.done)
	return in.close()
}

// holdReader gives nothing until the session is over.
type holdReader struct{ done <-chan struct{} }

func (r holdReader) Read([]byte) (int, error) {
	<-r.done
	return 0, io.EOF
}

// output is a session's stdout or stderr.
type output struct {
	wanted bool
	next   io.Writer
	file   *os.File
	mutex  sync.Mutex // after a timeout client-go may still write while the summary is taken
	count  int64
	digest hash.Hash

	wanting string // what to watch for; empty: nothing (any more)
	tail    []byte // the end of what came, shorter than wanting
	seen    bool
	onSight func()
}

func openOutput(spec string, own *os.File) (*output, error) {
	out := &output{wanted: spec != "none", next: io.Discard}
	if spec != "none" && spec != "discard" {
		out.digest = sha256.New()
	}
	switch spec {
	case "none", "discard", "hash":
	case "-":
		out.next = own
	default:
		file, err := os.Create(spec)
		if err != nil {
			return nil, err
		}
		out.next, out.file = file, file
	}
	return out, nil
}

// writer returns nil when the output is not wanted: the executor then opens no stream for it.
func (out *output) writer() io.Writer {
	if !out.wanted {
		return nil
	}
	return out
}

func (out *output) Write(p []byte) (int, error) {
	out.mutex.Lock()
	defer out.mutex.Unlock()
	out.count += int64(len(p))
	if out.digest != nil {
		out.digest.Write(p)
	}
	n, err := out.next.Write(p)
	if out.wanting != "" {
		out.look(p)
	}
	return n, err
}

// watch calls onSight as soon as text has come.
func (out *output) watch(text string, onSight func()) { out.wanting, out.onSight = text, onSight }

func (out *output) found() bool {
	out.mutex.Lock()
	defer out.mutex.Unlock()
	return out.seen
}

func (out *output) look(p []byte) {
	out.tail = append(out.tail, p...)
	if bytes.Contains(out.tail, []byte(out.wanting)) {
		out.wanting, out.tail, out.seen = "", nil, true
		out.onSight()
		return
	}
	out.tail = bytes.Clone(out.tail[max(0, len(out.tail)-len(out.wanting)+1):])
}

func (out *output) summary() summary {
	out.mutex.Lock()
	defer out.mutex.Unlock()
	result := summary{Bytes: out.count}
	if out.digest != nil {
		result.SHA256 = hex.EncodeToString(out.digest.Sum(nil))
	}
	return result
}

func (out *output) Close() error {
	if out.file == nil {
		return nil
	}
	return out.file.Close()
}
