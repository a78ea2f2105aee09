package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/apimachinery/pkg/util/portforward"
	utilproxy "k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/apiserver/pkg/util/proxy"
	criportforward "k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// Forwarder connects to ports of the loopback interface, as containerd does within a pod's namespace
// (internal/cri/server/sandbox_portforward_linux.go). Grace is how long it waits, once one direction has ended, for the
// other, without a word to either side; with a negative one half-close is carried on.
type Forwarder struct {
	Grace time.Duration
}

// PortForward implements criportforward.PortForwarder.
func (f *Forwarder) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	conn, err := dialPod(port)
	if err != nil {
		return fmt.Errorf("failed to execute portforward in network namespace %q: %w", "host", err)
	}
	defer conn.Close()
	results := make(chan error, 2)
	halfClose := f.Grace < 0
	go func() {
		_, err := io.Copy(stream, conn)
		if halfClose && err == nil {
			err = stream.Close()
		}
		results <- err
	}()
	go func() {
		_, err := io.Copy(conn, stream)
		if halfClose && err == nil {
			err = conn.(*net.TCPConn).CloseWrite()
			if errors.Is(err, net.ErrClosed) {
				err = nil
			}
		}
		results <- err
	}()
	first := <-results
	if halfClose && first == nil {
		return <-results
	}
	select {
	case second := <-results:
		return errors.Join(first, second)
	case <-time.After(max(f.Grace, 0)):
		return first
	}
}

func dialPod(port int32) (net.Conn, error) {
	address := func(host string) string { return net.JoinHostPort(host, fmt.Sprint(port)) }
	conn, errV4 := net.Dial("tcp4", address("127.0.0.1"))
	if errV4 == nil {
		return conn, nil
	}
	conn, errV6 := net.Dial("tcp6", address("::1"))
	if errV6 == nil {
		return conn, nil
	}
	return nil, fmt.Errorf("failed to connect to localhost:%d inside namespace %q, IPv4: %v IPv6 %v ",
		port, "host", errV4, errV6)
}

// portForward keeps the order of a kubelet's checks (k/k: pkg/kubelet/server/server.go getPortForward).
func (c *Config) portForward(w http.ResponseWriter, r *http.Request) {
	tunnel := c.Streaming != nil && offersTunnel(r)
	options := &criportforward.V4Options{}
	if !tunnel {
		var err error
		if options, err = criportforward.NewV4Options(r); err != nil {
			answer(w, http.StatusBadRequest, err.Error())
			return
		}
	}
	switch {
	case r.PathValue("namespace") != c.Namespace || r.PathValue("pod") != c.Pod:
		answer(w, http.StatusNotFound, "pod does not exist")
		return
	case !httpstream.IsUpgradeRequest(r):
		answer(w, http.StatusInternalServerError, "Upgrade request required")
		return
	}
	session := func(w http.ResponseWriter, r *http.Request) {
		criportforward.ServePortForward(w, r, c.Forwarder, c.Pod, "", options, c.IdleTimeout, c.CreationTimeout,
			[]string{criportforward.ProtocolV1Name})
	}
	if !tunnel {
		session(w, r)
		return
	}
	location, forget := c.Streaming.add("portforward", session)
	defer forget()
	backend := utilproxy.NewUpgradeAwareHandler(
		location, http.DefaultTransport, false, true, utilproxy.NewErrorResponder(responder{w}))
	proxy.NewTunnelingHandler(backend).ServeHTTP(w, r)
}

func offersTunnel(r *http.Request) bool {
	return wsstream.IsWebSocketRequest(r) &&
		slices.Contains(websocket.Subprotocols(r), portforward.WebsocketsSPDYTunnelingPortForwardV1)
}

type responder struct{ w http.ResponseWriter }

func (r responder) Error(err error) { http.Error(r.w, err.Error(), http.StatusInternalServerError) }
