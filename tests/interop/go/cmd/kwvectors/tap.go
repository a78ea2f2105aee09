package main

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// chunk is what one read gave.
type chunk struct {
	from string // client or server
	data []byte
}

// tap sits between one client and a server and keeps all bytes in the order seen. It goes on reading a client after
// the server has closed, so that the client's last frames are kept, too; a server's own view would miss them.
type tap struct {
	listener net.Listener
	backend  string
	done     chan error
	mutex    sync.Mutex
	chunks   []chunk
}

func newTap(backend string) (*tap, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &tap{listener: listener, backend: backend, done: make(chan error, 1)}
	go func() { t.done <- t.relay() }()
	return t, nil
}

func (t *tap) address() string { return t.listener.Addr().String() }

// finish waits until both sides have closed.
func (t *tap) finish(limit time.Duration) ([]chunk, error) {
	select {
	case err := <-t.done:
		return t.chunks, err
	case <-time.After(limit):
		return nil, errors.New("client and server did not both close")
	}
}

func (t *tap) relay() error {
	defer t.listener.Close()
	client, err := t.listener.Accept()
	if err != nil {
		return err
	}
	defer client.Close()
	server, err := net.Dial("tcp", t.backend)
	if err != nil {
		return err
	}
	defer server.Close()
	var directions sync.WaitGroup
	directions.Go(func() { t.copy("client", server, client) })
	directions.Go(func() { t.copy("server", client, server) })
	directions.Wait()
	return nil
}

// copy reads to the end even when the other side no longer takes anything.
func (t *tap) copy(from string, to io.Writer, side io.Reader) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := side.Read(buffer)
		if n > 0 {
			t.mutex.Lock()
			t.chunks = append(t.chunks, chunk{from, append([]byte(nil), buffer[:n]...)})
			t.mutex.Unlock()
			_, _ = to.Write(buffer[:n])
		}
		if err != nil {
			_ = to.(*net.TCPConn).CloseWrite()
			return
		}
	}
}
