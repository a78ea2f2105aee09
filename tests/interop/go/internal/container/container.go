// Package container runs the commands of the Go kubelet: scripted ones inside this process, and, only when the
// caller allows it by name, processes of the host.
package container

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// Streams is what a command reads and writes. In, Out and Err are never nil: a stream that the client did not ask
// for is empty or swallows what it gets.
type Streams struct {
	In      io.Reader
	Out     io.Writer
	Err     io.Writer
	TTY     bool
	Resizes <-chan remotecommand.TerminalSize // nil when the session has no resize stream
	Conn    net.Conn                          // the client's connection under TLS, for commands that cut it
}

// Command is one program: it returns nil for exit code 0, [exited] for another code, and any other error for a
// command that could not be run, which the client sees as an internal error.
type Command func(ctx context.Context, s *Streams, args []string) error

// Runtime is the container runtime behind the kubelet; it implements remotecommand.Executor.
type Runtime struct {
	Processes *Processes // nil: scripted commands only
	// EndWithReset leaves stdout and stderr open when a command ends, so that the connection's end resets them.
	// Runtimes differ: containerd closes both (FIN), others leave it to the connection (RST_STREAM).
	EndWithReset bool
}

type connKey struct{}

// WithConn keeps the client's connection where commands find it.
func WithConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// ExecInContainer runs argv and maps its end as containerd does (internal/cri/io/exec_io.go).
func (r *Runtime) ExecInContainer(
	ctx context.Context, _, _, _ string, argv []string, in io.Reader, out, errOut io.WriteCloser, tty bool,
	resize <-chan remotecommand.TerminalSize, _ time.Duration,
) error {
	conn, _ := ctx.Value(connKey{}).(net.Conn)
	streams := &Streams{In: eofReader{}, Out: io.Discard, Err: io.Discard, TTY: tty, Resizes: resize, Conn: conn}
	if in != nil {
		streams.In = in
	}
	if out != nil {
		streams.Out = out
		if tty {
			streams.Err = out
		}
	}
	if errOut != nil {
		streams.Err = errOut
	}
	err := r.run(ctx, streams, argv)
	if !r.EndWithReset {
		for _, w := range []io.Closer{out, errOut} {
			if w != nil {
				w.Close() // an error here means that the client has left
			}
		}
	}
	return err
}

func (r *Runtime) run(ctx context.Context, streams *Streams, argv []string) error {
	if len(argv) == 0 {
		return fmt.Errorf("no command given")
	}
	if command, ok := scripted[argv[0]]; ok {
		return command(ctx, streams, argv[1:])
	}
	if r.Processes == nil {
		return fmt.Errorf("exec: %q: not a scripted command, and host processes are not allowed", argv[0])
	}
	return r.Processes.run(streams, argv)
}

// exited is the error of a command that ran and ended with code, in containerd's words.
func exited(argv []string, code int) error {
	if code == 0 {
		return nil
	}
	return utilexec.CodeExitError{Err: fmt.Errorf("error executing command %v, exit code %d", argv, code), Code: code}
}

type eofReader struct{}

func (eofReader) Read([]byte) (int, error) { return 0, io.EOF }
