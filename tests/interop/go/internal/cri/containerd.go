// Package cri is a private container runtime for tests, real in all its parts: containerd as a child process, its
// interface (k8s.io/cri-api) for whoever drives it, and a kubelet's streaming endpoints in front of it.
package cri

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	startTime = 60 * time.Second
	sweepTime = 60 * time.Second
	stopTime  = 15 * time.Second
)

// Containerd is a containerd of our own: its sockets, its state and its pods belong to this process.
type Containerd struct {
	*Bridge
	command *exec.Cmd
	ended   chan error
}

// Start runs containerd with this configuration, and returns once its runtime says that it is ready. Its log goes to
// stderr.
func Start(ctx context.Context, config, socket string) (*Containerd, error) {
	bridge, err := Dial(socket)
	if err != nil {
		return nil, err
	}
	command := exec.Command("containerd", "--config", config)
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	// Signals of a terminal are for the test run, which then ends us in good order.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		return nil, err
	}
	c := &Containerd{Bridge: bridge, command: command, ended: make(chan error, 1)}
	go func() { c.ended <- command.Wait() }()
	if err := c.awaitReady(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *Containerd) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	ready := make(chan error, 1)
	go func() {
		answer, err := c.Runtime.Status(ctx, &runtimeapi.StatusRequest{}, grpc.WaitForReady(true))
		for _, condition := range answer.GetStatus().GetConditions() {
			if condition.Type == runtimeapi.RuntimeReady && !condition.Status {
				err = fmt.Errorf("the runtime is not ready: %s", condition.Message)
			}
		}
		ready <- err
	}()
	select {
	case err := <-ready:
		return err
	case err := <-c.ended:
		c.ended <- err
		return fmt.Errorf("containerd ended before it was ready: %v", err)
	}
}

// Stop stops and removes every pod of this containerd, by id, and then containerd itself.
func (c *Containerd) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), sweepTime)
	defer cancel()
	err := c.sweep(ctx)
	_ = c.conn.Close()
	_ = c.command.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case <-c.ended:
	case <-time.After(stopTime):
		_ = c.command.Process.Kill()
		<-c.ended
		err = errors.Join(err, errors.New("containerd had to be killed"))
	}
	return err
}

func (c *Containerd) sweep(ctx context.Context) error {
	select {
	case err := <-c.ended:
		c.ended <- err
		return fmt.Errorf("containerd has ended: %v", err)
	default:
	}
	pods, err := c.Runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	for _, pod := range pods.GetItems() {
		_, stop := c.Runtime.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: pod.Id})
		_, remove := c.Runtime.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: pod.Id})
		err = errors.Join(err, stop, remove)
	}
	return err
}
