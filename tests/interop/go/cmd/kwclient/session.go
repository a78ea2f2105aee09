package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
)

// pingPeriod is client-go's own (transport/spdy/spdy.go).
const pingPeriod = 5 * time.Second

// dialer makes executors as transport/spdy.RoundTripperFor and transport/websocket.RoundTripperFor do, except that
// certificates are read once, not per session, which would count against Go in a latency benchmark, and that no proxy is
// looked for. For SPDY they are parsed once, too; the WebSocket executor parses them itself.
type dialer struct {
	config *restclient.Config
	tls    *tls.Config
	url    *url.URL
	sizes  []remotecommand.TerminalSize
}

func newDialer() (*dialer, error) {
	config := &restclient.Config{
		TLSClientConfig: restclient.TLSClientConfig{
			CAFile: *caFile, CertFile: *certFile, KeyFile: *keyFile, Insecure: *insecure, ServerName: *serverName,
		},
		Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
	}
	if err := restclient.LoadTLSFiles(config); err != nil {
		return nil, err
	}
	if *tokenFile != "" {
		token, err := os.ReadFile(*tokenFile)
		if err != nil {
			return nil, fmt.Errorf("-token-file: %w", err)
		}
		config.BearerToken = strings.TrimSpace(string(token))
	}
	tlsConfig, err := restclient.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	location, err := url.Parse(*target)
	if err != nil {
		return nil, fmt.Errorf("-url: %w", err)
	}
	sizes, err := parseSizes(*resizes)
	if *attach && len(sizes) > 0 { // kubectl's way to have a program draw its screen anew
		first := sizes[0]
		first.Width, first.Height = first.Width+1, first.Height+1
		sizes = append([]remotecommand.TerminalSize{first}, sizes...)
	}
	return &dialer{config: config, tls: tlsConfig, url: location, sizes: sizes}, err
}

// runOne runs one session; what went wrong is in its result.
func (d *dialer) runOne(ctx context.Context) (result session) {
	result.Transports = []string{}
	in, err := openInput(*stdin)
	if err != nil {
		return failed(result, err)
	}
	defer in.Close()
	out, err := openOutput(*stdout, os.Stdout)
	if err != nil {
		return failed(result, err)
	}
	defer out.Close()
	errOut, err := openOutput(*stderr, os.Stderr)
	if err != nil {
		return failed(result, err)
	}
	defer errOut.Close()

	options := remotecommand.StreamOptions{
		Stdin: in.reader(), Stdout: out.writer(), Stderr: errOut.writer(), Tty: *tty,
	}
	if *tty {
		options.TerminalSizeQueue = &sizeQueue{sizes: d.sizes, done: in.done}
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	out.watch(*until, cancel)
	start := time.Now()
	executor, err := d.executor(&result)
	if err == nil {
		err = executor.StreamWithContext(ctx, options)
	}
	if out.found() && errors.Is(err, context.Canceled) {
		result.Detached, err = true, nil
	}
	result.Seconds = time.Since(start).Seconds()
	result.StdinBytes = in.count.Load()
	result.Stdout, result.Stderr = out.summary(), errOut.summary()
	return failed(result, err)
}

func failed(result session, err error) session {
	var exit exec.CodeExitError
	switch {
	case err == nil:
		result.Exited = !result.Detached
	case errors.As(err, &exit):
		result.Exited, result.ExitCode, result.Error = true, exit.Code, err.Error()
	default:
		result.ExitCode, result.Error = 255, err.Error()
	}
	return result
}

func parseSizes(list string) ([]remotecommand.TerminalSize, error) {
	var sizes []remotecommand.TerminalSize
	if list == "" {
		return nil, nil
	}
	for _, text := range strings.Split(list, ",") {
		var size remotecommand.TerminalSize
		if _, err := fmt.Sscanf(text, "%dx%d", &size.Width, &size.Height); err != nil {
			return nil, fmt.Errorf("-resize: expected WIDTHxHEIGHT, got %q", text)
		}
		sizes = append(sizes, size)
	}
	return sizes, nil
}

// sizeQueue hands out the given sizes and then says nothing until the session is done.
type sizeQueue struct {
	sizes []remotecommand.TerminalSize
	done  <-chan struct{}
}

func (q *sizeQueue) Next() *remotecommand.TerminalSize {
	if len(q.sizes) == 0 {
		<-q.done
		return nil
	}
	size := q.sizes[0]
	q.sizes = q.sizes[1:]
	return &size
}
