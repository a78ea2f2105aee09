// Package daemon runs a server program under a test: it prints one JSON line when it accepts connections, answers lines
// on its stdin, and stops when stdin closes or on SIGTERM, so it never outlives the test that started it.
//
// The line "cpu" on stdin is answered by one JSON line on stdout: the processor time and memory used so far.
package daemon

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"kubewire.invalid/interop/internal/usage"
)

// Options says where and how to serve.
type Options struct {
	Listen, Cert, Key string
	TLS               string // the only version to speak, 1.2 or 1.3; empty: both
	Plain             bool
	// Answer makes of a line of stdin what is written as JSON for it; nil knows the line cpu only. An error ends the
	// program.
	Answer func(line string) (any, error)
}

// Flags defines the options as flags of the program.
func Flags() *Options {
	o := &Options{}
	flag.StringVar(&o.Listen, "listen", "127.0.0.1:0", "address to listen on; port 0 takes a free one")
	flag.StringVar(&o.Cert, "cert", "", "serving certificate, PEM")
	flag.StringVar(&o.Key, "key", "", "key of the serving certificate, PEM")
	flag.StringVar(&o.TLS, "tls", "", "the only version of TLS to speak, 1.2 or 1.3; both by default")
	flag.BoolVar(&o.Plain, "plain", false, "serve HTTP without TLS")
	return o
}

// Run serves until stdin ends or a signal says stop, and then returns nil.
func Run(server *http.Server, o *Options) error {
	scheme := "http"
	if !o.Plain {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return fmt.Errorf("-cert and -key: %w (or give -plain)", err)
		}
		server.TLSConfig.Certificates = []tls.Certificate{pair}
		if version := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}[o.TLS]; version != 0 {
			server.TLSConfig.MinVersion, server.TLSConfig.MaxVersion = version, version
		} else if o.TLS != "" {
			return fmt.Errorf("-tls: expected 1.2 or 1.3, got %q", o.TLS)
		}
		scheme = "https"
	}
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return err
	}
	stop := make(chan error, 3)
	go func() { stop <- serve(server, listener, o.Plain) }()
	address := listener.Addr().String()
	ready := map[string]any{"url": scheme + "://" + address, "addr": address, "pid": os.Getpid()}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return err
	}
	answer := o.Answer
	if answer == nil {
		answer = cost
	}
	go func() { stop <- answerLines(answer) }()
	go func() {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
		<-signals
		stop <- nil
	}()
	return <-stop
}

func serve(server *http.Server, listener net.Listener, plain bool) error {
	if plain {
		return server.Serve(listener)
	}
	return server.ServeTLS(listener, "", "")
}

// longestLine bounds a line of stdin.
const longestLine = 1 << 20

// answerLines returns when stdin ends.
func answerLines(answer func(string) (any, error)) error {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, longestLine)
	for lines.Scan() {
		reply, err := answer(lines.Text())
		if err != nil {
			return err
		}
		if err := json.NewEncoder(os.Stdout).Encode(reply); err != nil {
			return err
		}
	}
	return lines.Err()
}

func cost(line string) (any, error) {
	if line != "cpu" {
		return nil, fmt.Errorf("stdin: expected the line cpu, got %q", line)
	}
	return usage.Now(), nil
}
