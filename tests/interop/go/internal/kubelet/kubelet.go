// Package kubelet is the exec and attach endpoints of a kubelet: their paths and their order of checks in front of the
// remote-command server that real container runtimes use (k8s.io/cri-streaming).
package kubelet

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"kubewire.invalid/interop/internal/container"
	"kubewire.invalid/interop/internal/usage"
)

// Config says what the kubelet serves.
type Config struct {
	Auth            Authenticator
	Runtime         *container.Runtime
	Main            *container.Main // what attach attaches to
	Namespace, Pod  string
	Container       string
	Protocols       []string // of remote commands over SPDY, best first
	Forwarder       *Forwarder
	IdleTimeout     time.Duration
	CreationTimeout time.Duration
	// Streaming, when there is one, makes this a kubelet of 1.36 or newer (ExtendWebSocketsToKubelet): it accepts
	// WebSocket v5 and translates it to SPDY towards Streaming. Without it v5 is refused, as before.
	Streaming *Streaming
}

// Defaults is pod default/demo with container main, and the protocols and timeouts of a real streaming server.
func Defaults() Config {
	return Config{
		Runtime:         &container.Runtime{},
		Main:            container.NewMain(),
		Namespace:       "default",
		Pod:             "demo",
		Container:       "main",
		Protocols:       remotecommand.SupportedStreamingProtocols,
		Forwarder:       &Forwarder{Grace: time.Second},
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
		mux.HandleFunc(method+" /attach/{namespace}/{pod}/{container}", config.attach)
		mux.HandleFunc(method+" /attach/{namespace}/{pod}/{uid}/{container}", config.attach)
		mux.HandleFunc(method+" /portForward/{namespace}/{pod}", config.portForward)
		mux.HandleFunc(method+" /portForward/{namespace}/{pod}/{uid}", config.portForward)
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

func (c *Config) exec(w http.ResponseWriter, r *http.Request) {
	missing := fmt.Sprintf("container not found (%q)", r.PathValue("container"))
	options := c.check(w, r, missing)
	if options == nil {
		return
	}
	uid, command := r.PathValue("uid"), r.URL.Query()["command"]
	c.stream(w, r, "exec", options, func(w http.ResponseWriter, r *http.Request) {
		remotecommand.ServeExec(w, r, c.Runtime, c.Pod, uid, c.Container, command, options,
			c.IdleTimeout, c.CreationTimeout, c.Protocols)
	})
}

func (c *Config) attach(w http.ResponseWriter, r *http.Request) {
	missing := fmt.Sprintf("container %s not found in pod %s_%s", r.PathValue("container"), c.Pod, c.Namespace)
	options := c.check(w, r, missing)
	if options == nil {
		return
	}
	// What the runtime is told about the terminal is the container's word, not the request's.
	runtime := *options
	runtime.TTY = c.Main.TTY
	var attacher remotecommand.Attacher = c.Main
	if !options.Stdin {
		attacher = withoutStdin{attacher}
	}
	uid := r.PathValue("uid")
	c.stream(w, r, "attach", options, func(w http.ResponseWriter, r *http.Request) {
		remotecommand.ServeAttach(w, r, attacher, c.Pod, uid, c.Container, &runtime,
			c.IdleTimeout, c.CreationTimeout, c.Protocols)
	})
}

// withoutStdin hides the stdin that cri-streaming gives to every WebSocket session, and that has ended before it began
// when the client asked for none: it would end the session.
type withoutStdin struct{ remotecommand.Attacher }

func (a withoutStdin) AttachContainer(
	ctx context.Context, name, uid, container string, _ io.Reader, out, errOut io.WriteCloser, tty bool,
	resize <-chan remotecommand.TerminalSize,
) error {
	return a.Attacher.AttachContainer(ctx, name, uid, container, nil, out, errOut, tty, resize)
}

// check keeps the order of a kubelet's checks (k/k: pkg/kubelet/server/server.go getExec): options, pod, container,
// upgrade. It has answered when it returns nil.
func (c *Config) check(w http.ResponseWriter, r *http.Request, missing string) *remotecommand.Options {
	options, err := remotecommand.NewOptions(r)
	switch {
	case err != nil:
		answer(w, http.StatusBadRequest, err.Error())
	case r.PathValue("namespace") != c.Namespace || r.PathValue("pod") != c.Pod:
		answer(w, http.StatusNotFound, "pod does not exist")
	case r.PathValue("container") != c.Container:
		answer(w, http.StatusInternalServerError, missing)
	case !httpstream.IsUpgradeRequest(r):
		answer(w, http.StatusInternalServerError, "Upgrade request required")
	default:
		return options
	}
	return nil
}

// stream hands the request to session, or puts Kubernetes' translator between the two.
func (c *Config) stream(
	w http.ResponseWriter, r *http.Request, kind string, options *remotecommand.Options, session http.HandlerFunc,
) {
	if c.Streaming == nil || !wsstream.IsWebSocketRequestWithStreamCloseProtocol(r) {
		session(w, r)
		return
	}
	location, forget := c.Streaming.add(kind, session)
	defer forget()
	proxy.NewStreamTranslatorHandler(location, nil, 0, proxy.Options{
		Stdin: options.Stdin, Stdout: options.Stdout, Stderr: options.Stderr, Tty: options.TTY,
	}).ServeHTTP(w, r)
}
