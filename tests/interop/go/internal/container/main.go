package container

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"kubewire.invalid/interop/internal/source"
)

// backlog is how many writes of the program may wait for one attacher. The program stops when they do, as a process
// does before a full pipe; a write is at most copyUnit long, so no attacher holds more than 1 MiB.
const backlog = 32

// Main is the program that a container was started with, and that attach attaches to; it implements
// remotecommand.Attacher, and treats attachers as containerd does (internal/cri/io/container_io.go).
//
// It begins with the first attacher, goes on when nobody is attached, and when it has ended it begins anew. It prints
// "tick N" at each interval and obeys the lines of its stdin, which all attachers share:
//
//	exit        ends the program
//	err TEXT    prints TEXT on stderr
//	source N    prints N zero bytes
//	(other)     is printed
//
// It prints "size WIDTHxHEIGHT" when it is told so, and ends when its stdin ends.
type Main struct {
	Interval time.Duration // zero: no ticks
	TTY      bool          // stderr goes where stdout goes
	// StdinOnce makes the end of an attacher's stdin the end of the program's. Otherwise it ends that attacher.
	StdinOnce    bool
	EndWithReset bool // as in Runtime

	mutex   sync.Mutex
	current *program
}

// NewMain returns a program that ticks ten times in a second.
func NewMain() *Main { return &Main{Interval: 100 * time.Millisecond} }

// AttachContainer returns when the program has ended, or the attacher has left or, unless StdinOnce, ended its stdin.
func (m *Main) AttachContainer(
	_ context.Context, _, _, _ string, in io.Reader, out, errOut io.WriteCloser, _ bool,
	resize <-chan remotecommand.TerminalSize,
) error {
	a := &attacher{out: out, errOut: errOut, queue: make(chan output, backlog), gone: make(chan struct{})}
	p := m.join(a)
	defer p.leave(a)
	if in != nil {
		go func() {
			_, err := io.CopyBuffer(struct{ io.Writer }{p.stdin}, in, make([]byte, copyUnit))
			if m.StdinOnce && !m.TTY && err == nil {
				p.stdin.Close()
				return
			}
			a.end()
		}()
	}
	if resize != nil {
		go p.resize(resize)
	}
	a.deliver(p.done)
	if !m.EndWithReset {
		for _, w := range []io.Closer{out, errOut} {
			if w != nil {
				w.Close() // an error here means that the client has left
			}
		}
	}
	return nil
}

// join adds the attacher to the running program, or starts one for it.
func (m *Main) join(a *attacher) *program {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if p := m.current; p == nil || !p.join(a) {
		m.current = &program{
			tty: m.TTY, done: make(chan struct{}), sizes: make(chan remotecommand.TerminalSize),
			attachers: map[*attacher]struct{}{a: {}},
		}
		var stdin *io.PipeReader
		stdin, m.current.stdin = io.Pipe()
		go m.current.run(m.Interval, stdin)
	}
	return m.current
}

// program is one run of Main.
type program struct {
	tty   bool
	stdin *io.PipeWriter
	sizes chan remotecommand.TerminalSize
	done  chan struct{} // closed after the last output was queued

	mutex     sync.Mutex
	ended     bool
	attachers map[*attacher]struct{}
}

func (p *program) join(a *attacher) bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if !p.ended {
		p.attachers[a] = struct{}{}
	}
	return !p.ended
}

func (p *program) leave(a *attacher) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	delete(p.attachers, a)
	a.end()
}

func (p *program) resize(sizes <-chan remotecommand.TerminalSize) {
	for size := range sizes {
		select {
		case p.sizes <- size:
		case <-p.done: // goes on reading, so that the sender of sizes can end
		}
	}
}

func (p *program) run(interval time.Duration, stdin *io.PipeReader) {
	defer func() {
		p.mutex.Lock()
		p.ended = true
		p.mutex.Unlock()
		close(p.done)
		stdin.CloseWithError(io.ErrClosedPipe)
	}()
	var ticks <-chan time.Time
	if interval > 0 {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		ticks = ticker.C
	}
	lines := make(chan []byte)
	go p.read(stdin, lines)
	for n := 0; ; {
		select {
		case <-ticks:
			p.print(false, fmt.Appendf(nil, "tick %d\n", n))
			n++
		case size := <-p.sizes:
			p.print(false, fmt.Appendf(nil, "size %dx%d\n", size.Width, size.Height))
		case line, open := <-lines:
			if !open || !p.obey(line) {
				return
			}
		}
	}
}

// read cuts stdin into lines; one that is longer than its buffer counts as several.
func (p *program) read(stdin io.Reader, lines chan<- []byte) {
	defer close(lines)
	reader := bufio.NewReaderSize(stdin, copyUnit)
	for {
		line, err := reader.ReadSlice('\n')
		if len(line) > 0 {
			select {
			case lines <- bytes.Clone(line):
			case <-p.done:
				return
			}
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// obey says whether the program goes on.
func (p *program) obey(line []byte) bool {
	word, rest, _ := bytes.Cut(line, []byte(" "))
	switch string(bytes.TrimRight(word, "\r\n")) {
	case "exit":
		return false
	case "err":
		p.print(true, rest)
	case "source":
		n, err := source.Length(string(bytes.TrimSpace(rest)))
		if err != nil {
			p.print(true, []byte(err.Error()+"\n"))
		}
		for zeros := make([]byte, copyUnit); n > 0; n -= copyUnit {
			p.print(false, zeros[:min(n, copyUnit)])
		}
	default:
		p.print(false, line)
	}
	return true
}

// print queues data, which nobody may change any more, for all who are attached.
func (p *program) print(toErr bool, data []byte) {
	p.mutex.Lock()
	attachers := make([]*attacher, 0, len(p.attachers))
	for a := range p.attachers {
		attachers = append(attachers, a)
	}
	p.mutex.Unlock()
	for _, a := range attachers {
		select {
		case a.queue <- output{toErr && !p.tty, data}:
		case <-a.gone:
		}
	}
}

type output struct {
	toErr bool
	data  []byte
}

// attacher is one session. Its outputs are nil when the client did not ask for them.
type attacher struct {
	out, errOut io.WriteCloser
	queue       chan output
	once        sync.Once
	gone        chan struct{}
}

// end makes deliver return once what is queued was written.
func (a *attacher) end() { a.once.Do(func() { close(a.gone) }) }

// deliver writes what the program prints until the attacher or the program ends.
func (a *attacher) deliver(done <-chan struct{}) {
	for {
		select {
		case o := <-a.queue:
			if !a.write(o) {
				return
			}
			continue
		case <-a.gone:
		case <-done:
		}
		for {
			select {
			case o := <-a.queue:
				if !a.write(o) {
					return
				}
			default:
				return
			}
		}
	}
}

// write says whether the client still takes output.
func (a *attacher) write(o output) bool {
	w := a.out
	if o.toErr {
		w = a.errOut
	}
	if w == nil {
		return true
	}
	_, err := w.Write(o.data)
	return err == nil
}
