// Command kwforward forwards ports through client-go's own port-forwarder, over SPDY or over SPDY tunnelled in a
// WebSocket.
//
// It prints one JSON line with the local ports when it is ready, then ends when stdin ends or the connection to the pod
// is lost; the reason of a loss is one line on stderr, and the exit code 255.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/util/httpstream"
	httpspdy "k8s.io/apimachinery/pkg/util/httpstream/spdy"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	streamhttp "k8s.io/streaming/pkg/httpstream"

	"kubewire.invalid/interop/internal/usage"
)

var (
	target    = flag.String("url", "", "the whole URL of the port-forward request")
	transport = flag.String("transport", "spdy", "spdy, websocket (SPDY tunnelled in it), or fallback (kubectl's order)")
	ports     = flag.String("ports", "", "comma list of ports, as kubectl has them: 8080:80, :80, 80")
	address   = flag.String("address", "127.0.0.1", "address to listen on")
	caFile    = flag.String("ca", "", "authority of the serving certificate, PEM")
	certFile  = flag.String("cert", "", "client certificate, PEM")
	keyFile   = flag.String("key", "", "key of the client certificate, PEM")
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("kwforward: ")
	flag.Parse()
	if err := run(); err != nil {
		log.Print(err)
		os.Exit(255)
	}
}

func run() error {
	dialer, err := newDialer()
	if err != nil {
		return err
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.NewOnAddresses(
		dialer, []string{*address}, strings.Split(*ports, ","), stop, ready, io.Discard, os.Stderr)
	if err != nil {
		return err
	}
	go func() {
		<-ready
		forwarded, err := forwarder.GetPorts()
		if err != nil {
			log.Fatal(err)
		}
		local := make([]int, len(forwarded))
		for i, port := range forwarded {
			local[i] = int(port.Local)
		}
		json.NewEncoder(os.Stdout).Encode(map[string][]int{"ports": local})
		lines(stop)
	}()
	return forwarder.ForwardPorts()
}

// lines answers "cpu" with what this program has cost, and ends the forwarding with stdin.
func lines(stop chan struct{}) {
	var line string
	for {
		if _, err := fmt.Scanln(&line); errors.Is(err, io.EOF) {
			close(stop)
			return
		}
		json.NewEncoder(os.Stdout).Encode(usage.Now())
	}
}

func newDialer() (httpstream.Dialer, error) {
	location, err := url.Parse(*target)
	if err != nil {
		return nil, err
	}
	config := &restclient.Config{
		TLSClientConfig: restclient.TLSClientConfig{CAFile: *caFile, CertFile: *certFile, KeyFile: *keyFile},
		Proxy:           func(*http.Request) (*url.URL, error) { return nil, nil },
	}
	tlsConfig, err := restclient.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	upgrader, err := httpspdy.NewRoundTripperWithConfig(httpspdy.RoundTripperConfig{TLS: tlsConfig, PingPeriod: 5e9})
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: upgrader}
	plain := spdy.NewDialer(upgrader, client, http.MethodPost, location)
	if *transport == "spdy" {
		return plain, nil
	}
	tunnel, err := portforward.NewSPDYOverWebsocketDialer(location, config)
	if err != nil || *transport == "websocket" {
		return tunnel, err
	}
	return portforward.NewFallbackDialer(tunnel, plain, func(err error) bool {
		return streamhttp.IsUpgradeFailure(err) || streamhttp.IsHTTPSProxyError(err)
	}), nil
}
