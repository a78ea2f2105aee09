package container

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// stopGrace bounds the wait for commands that were killed: one whose client does not read still has output to deliver.
const stopGrace = 2 * time.Second

// Processes runs commands of the host and remembers them, so that none outlives the server. Each command is a process
// group of its own; what it leaves in the background is killed when it ends.
type Processes struct {
	mutex   sync.Mutex
	stopped bool
	groups  map[int]struct{}
	running sync.WaitGroup
}

// NewProcesses returns an empty set.
func NewProcesses() *Processes { return &Processes{groups: make(map[int]struct{})} }

// Stop kills every process group that still runs and refuses new ones. It returns when the commands are gone.
func (p *Processes) Stop() {
	p.mutex.Lock()
	p.stopped = true
	for pid := range p.groups {
		kill(pid)
	}
	p.mutex.Unlock()
	gone := make(chan struct{})
	go func() {
		p.running.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-time.After(stopGrace):
	}
}

func (p *Processes) run(s *Streams, argv []string) error {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = onlyWriter{s.Out}, onlyWriter{s.Err}
	if s.TTY {
		cmd.Stderr = cmd.Stdout // one pipe for both keeps their order; there is no pseudo-terminal here
	}
	// Not cmd.Stdin: Wait would then wait for the client's stdin to end, too.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := p.start(cmd); err != nil {
		return fmt.Errorf("failed to exec in container: %w", err)
	}
	defer p.forget(cmd)
	go func() {
		_ = pump(stdin, s.In) // it ends with the client's stdin, with the process, or with the session
		stdin.Close()
	}()
	err = cmd.Wait() // returns when the outputs have been read to their end, too
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exited(argv, 128+int(status.Signal()))
	}
	return exited(argv, exit.ExitCode())
}

func (p *Processes) start(cmd *exec.Cmd) error {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.stopped {
		return errors.New("the server is stopping")
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.groups[cmd.Process.Pid] = struct{}{}
	p.running.Add(1)
	return nil
}

func (p *Processes) forget(cmd *exec.Cmd) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	kill(cmd.Process.Pid)
	delete(p.groups, cmd.Process.Pid)
	p.running.Done()
}

func kill(group int) {
	_ = syscall.Kill(-group, syscall.SIGKILL) // it fails when nothing of the group is left
}

// onlyWriter hides every other method, so that os/exec copies in its usual units.
type onlyWriter struct{ io.Writer }
