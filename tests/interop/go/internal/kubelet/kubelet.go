// Package kubelet is the exec endpoint of a kubelet: its paths and its order of checks in front of the remote-command
// server that real container runtimes use (k8s.io/cri-streaming).
package kubelet

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream"

	"kubewire.invalid/interop/internal/container"
	"kubewire.invalid/interop/internal/usage"
)

// Config says what the kubelet serves.
type Config struct {
	Auth            Authenticator
	Runtime         *container.Runtime
	Namespace, Pod  string
	Container       string
	Protocols       []string // of remote commands, best first
	IdleTimeout     time.Duration
	CreationTimeout time.Duration
}

// Defaults is pod default/demo with container main, and the protocols and timeouts of a real streaming server.
func Defaults() Config {
	return Config{
		Runtime:         &container.Runtime{},
		Namespace:       "default",
		Pod:             "demo",
		Container:       "main",
		Protocols:       remotecommand.SupportedStreamingProtocols,
		IdleTimeout:     4 * time.Hour,
		CreationTimeout: remotecommand.DefaultStreamCreationTimeout,
	}
}

// NewServer returns an HTTP server for config; the caller chooses the listener and the certificate.
func NewServer(config Config) *http.Server {
	mux := http.NewServeMux()
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		mux.HandleFunc(method+" /exec/{namespace}/{pod}/{container}", config.exec)
		mux.HandleFunc(method+" /exec/{namespace}/{pod}/{uid}/{container}", config.exec)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /debug/cpu", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(usage.Now()) // the client may have left
	})
	return &http.Server{
		Handler:           config.Auth.Wrap(mux),
		ReadHeaderTimeout: 30 * time.Second,
		TLSConfig:         &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12},
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			if secure, ok := conn.(*tls.Conn); ok {
				conn = secure.NetConn()
			}
			return container.WithConn(ctx, conn)
		},
	}
}

// exec keeps the order of a kubelet's checks (k/k: pkg/kubelet/server/server.go getExec): options, pod, container,
// upgrade. Everything from the protocol negotiation on is cri-streaming's.
func (c *Config) exec(w http.ResponseWriter, r *http.Request) {
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		answer(w, http.StatusBadRequest, err.Error())
		return
	}
	name := r.PathValue("container")
	if r.PathValue("namespace") != c.Namespace || r.PathValue("pod") != c.Pod {
		answer(w, http.StatusNotFound, "pod does not exist")
		return
	}
	if name != c.Container {
		answer(w, http.StatusInternalServerError, fmt.Sprintf("container not found (%q)", name))
		return
	}
	if !httpstream.IsUpgradeRequest(r) {
		answer(w, http.StatusInternalServerError, "Upgrade request required")
		return
	}
	remotecommand.ServeExec(w, r, c.Runtime, c.Pod, r.PathValue("uid"), name, r.URL.Query()["command"], options,
		c.IdleTimeout, c.CreationTimeout, c.Protocols)
}
