// Command kwserver is a kubelet-like server: exec over SPDY (and WebSocket), served by the code that real container
// runtimes use. It prints one JSON line when it is ready, answers lines on its stdin, and stops when stdin closes or
// on SIGTERM, so it never outlives the test that started it.
//
// The line "cpu" on stdin is answered by one JSON line on stdout: the processor time and memory that the server has
// used so far. The same stands at /debug/cpu.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"kubewire.invalid/interop/internal/container"
	"kubewire.invalid/interop/internal/kubelet"
	"kubewire.invalid/interop/internal/usage"
)

var (
	listen    = flag.String("listen", "127.0.0.1:0", "address to listen on; port 0 takes a free one")
	certFile  = flag.String("cert", "", "serving certificate, PEM")
	keyFile   = flag.String("key", "", "key of the serving certificate, PEM")
	clientCA  = flag.String("client-ca", "", "authority of client certificates, PEM; none are accepted without it")
	tokenFile = flag.String("token-file", "", "file with the bearer token to accept")
	plain     = flag.Bool("plain", false, "serve HTTP without TLS")
	protocols = flag.String("protocols", "", "comma list of protocols to support, such as v2.channel.k8s.io,channel.k8s.io")
	processes = flag.Bool("allow-processes", false, "run commands that are not scripted as processes of this host")
	end       = flag.String("end", "fin", "how outputs end: fin (as containerd) or reset (left to the connection's end)")
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("kwserver: ")
	config := kubelet.Defaults()
	flag.DurationVar(&config.IdleTimeout, "idle-timeout", config.IdleTimeout, "end a connection without frames")
	flag.DurationVar(&config.CreationTimeout, "creation-timeout", config.CreationTimeout, "wait for the client's streams")
	flag.Parse()
	if err := run(config); err != nil {
		log.Fatal(err)
	}
}

func run(config kubelet.Config) error {
	if err := configure(&config); err != nil {
		return err
	}
	if *processes {
		config.Runtime.Processes = container.NewProcesses()
		defer config.Runtime.Processes.Stop()
	}
	server := kubelet.NewServer(config)
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	scheme := "http"
	if !*plain {
		pair, err := tls.LoadX509KeyPair(*certFile, *keyFile)
		if err != nil {
			return fmt.Errorf("-cert and -key: %w (or give -plain)", err)
		}
		server.TLSConfig.Certificates = []tls.Certificate{pair}
		scheme = "https"
	}
	stop := make(chan error, 3)
	go func() { stop <- serve(server, listener) }()
	address := listener.Addr().String()
	ready := map[string]any{"url": scheme + "://" + address, "addr": address, "pid": os.Getpid()}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return err
	}
	go func() { stop <- answerLines() }()
	go func() {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
		<-signals
		stop <- nil
	}()
	return <-stop
}

func configure(config *kubelet.Config) error {
	switch *end {
	case "fin", "reset":
		config.Runtime.EndWithReset = *end == "reset"
	default:
		return fmt.Errorf("-end: expected fin or reset, got %q", *end)
	}
	if *protocols != "" {
		config.Protocols = strings.Split(*protocols, ",")
	}
	if *clientCA != "" {
		pem, err := os.ReadFile(*clientCA)
		if err != nil {
			return fmt.Errorf("-client-ca: %w", err)
		}
		config.Auth.ClientCAs = x509.NewCertPool()
		if !config.Auth.ClientCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("-client-ca: no certificate in %s", *clientCA)
		}
	}
	if *tokenFile != "" {
		token, err := os.ReadFile(*tokenFile)
		if err != nil {
			return fmt.Errorf("-token-file: %w", err)
		}
		config.Auth.Token = strings.TrimSpace(string(token))
	}
	return nil
}

func serve(server *http.Server, listener net.Listener) error {
	if *plain {
		return server.Serve(listener)
	}
	return server.ServeTLS(listener, "", "")
}

// answerLines returns when stdin ends.
func answerLines() error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if lines.Text() != "cpu" {
			return fmt.Errorf("stdin: expected the line cpu, got %q", lines.Text())
		}
		if err := json.NewEncoder(os.Stdout).Encode(usage.Now()); err != nil {
			return err
		}
	}
	return lines.Err()
}
