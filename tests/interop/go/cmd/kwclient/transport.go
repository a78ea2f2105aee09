package main

import (
	"context"
	"fmt"

	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/streaming/pkg/httpstream"

	httpspdy "k8s.io/apimachinery/pkg/util/httpstream/spdy"
	restclient "k8s.io/client-go/rest"
)

// executor makes what -transport names. Each executor that is tried leaves its name in result.
func (d *dialer) executor(result *session) (remotecommand.Executor, error) {
	switch *transport {
	case "spdy":
		return d.spdy(result)
	case "websocket":
		return d.websocket(result)
	}
	// As kubectl (pkg/cmd/exec/exec.go): WebSocket v5 first, then SPDY for what its predicate takes for a server, or
	// a proxy, that cannot do it.
	first, err := d.websocket(result)
	if err != nil {
		return nil, err
	}
	second, err := d.spdy(result)
	if err != nil {
		return nil, err
	}
	return remotecommand.NewFallbackExecutor(first, second, func(err error) bool {
		fallback := httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
		if fallback {
			result.FallbackReason = err.Error()
		}
		return fallback
	})
}

func (d *dialer) spdy(result *session) (remotecommand.Executor, error) {
	upgrader, err := httpspdy.NewRoundTripperWithConfig(
		httpspdy.RoundTripperConfig{TLS: d.tls.Clone(), PingPeriod: pingPeriod})
	if err != nil {
		return nil, err
	}
	transport, err := restclient.HTTPWrappersForConfig(d.config, upgrader)
	if err != nil {
		return nil, err
	}
	offer := protocolNames("v5,v4,v3,v2,v1")
	if *protocols != "" {
		offer = protocolNames(*protocols)
	}
	executor, err := remotecommand.NewSPDYExecutorForProtocols(transport, upgrader, *method, d.url, offer...)
	return traced{executor, "spdy", result}, err
}

func (d *dialer) websocket(result *session) (remotecommand.Executor, error) {
	offer := []string{"v5.channel.k8s.io"} // as NewWebSocketExecutor
	if *protocols != "" && *transport == "websocket" {
		offer = protocolNames(*protocols)
	}
	executor, err := remotecommand.NewWebSocketExecutorForProtocols(d.config, "GET", d.url.String(), offer...)
	return traced{executor, "websocket", result}, err
}

// traced notes which transport is tried.
type traced struct {
	remotecommand.Executor
	name   string
	result *session
}

// StreamWithContext makes an error of client-go's panic, which it means for a subprotocol that it offered and got, yet
// cannot speak.
func (t traced) StreamWithContext(ctx context.Context, options remotecommand.StreamOptions) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("client-go panicked: %v", p)
		}
	}()
	t.result.Transports = append(t.result.Transports, t.name)
	return t.Executor.StreamWithContext(ctx, options)
}
