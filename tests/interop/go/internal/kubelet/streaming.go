package kubelet

import (
	"context"
	"crypto/rand"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"kubewire.invalid/interop/internal/container"
)

// Streaming is to this kubelet what a container runtime's streaming server is to a real one: plain HTTP on loopback,
// with one URL for each session that nobody can guess and that is good for one request.
type Streaming struct {
	base     url.URL
	server   *http.Server
	mutex    sync.Mutex
	sessions map[string]http.HandlerFunc
}

// NewStreaming starts a server on a free port.
func NewStreaming() (*Streaming, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Streaming{
		base:     url.URL{Scheme: "http", Host: listener.Addr().String()},
		sessions: map[string]http.HandlerFunc{},
	}
	s.server = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 30 * time.Second,
		ConnContext:       func(ctx context.Context, conn net.Conn) context.Context { return container.WithConn(ctx, conn) },
	}
	go s.server.Serve(listener) // returns when the server is closed
	return s, nil
}

// Close stops the server.
func (s *Streaming) Close() error { return s.server.Close() }

// add returns the URL of session, and what takes it back when nobody has asked for it.
func (s *Streaming) add(kind string, session http.HandlerFunc) (*url.URL, func()) {
	location := s.base
	location.Path = "/" + kind + "/" + rand.Text()
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.sessions[location.Path] = session
	return &location, func() { s.take(location.Path) }
}

func (s *Streaming) take(path string) http.HandlerFunc {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	session := s.sessions[path]
	delete(s.sessions, path)
	return session
}

// ServeHTTP runs the session of the request's path.
func (s *Streaming) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	session := s.take(r.URL.Path)
	if session == nil {
		http.NotFound(w, r)
		return
	}
	session(w, r)
}
