// Command kwserver is a kubelet-like server: exec, attach and port-forward over SPDY and WebSocket, served by the code
// that real container runtimes use. Ports of the pod are those of the loopback interface. It prints one JSON line when it is ready, answers lines on its stdin, and stops when stdin
// closes or on SIGTERM, so it never outlives the test that started it.
//
// The line "cpu" on stdin is answered by one JSON line on stdout: the processor time and memory that the server has
// used so far. The same stands at /debug/cpu.
package main

import (
	"flag"
	"fmt"
	"log"
	"strings"

	"kubewire.invalid/interop/internal/container"
	"kubewire.invalid/interop/internal/daemon"
	"kubewire.invalid/interop/internal/kubelet"
)

var (
	clientCA  = flag.String("client-ca", "", "authority of client certificates, PEM; none are accepted without it")
	tokenFile = flag.String("token-file", "", "file with the bearer token to accept")
	protocols = flag.String("protocols", "", "comma list of SPDY protocols to support, such as v2.channel.k8s.io,channel.k8s.io")
	processes = flag.Bool("allow-processes", false, "run commands that are not scripted as processes of this host")
	end       = flag.String("end", "fin", "how outputs end: fin (as containerd) or reset (left to the connection's end)")
	translate = flag.Bool("translate", false, "accept WebSocket v5 and translate it to SPDY, as a kubelet of 1.36 or newer does")
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("kwserver: ")
	config := kubelet.Defaults()
	options := daemon.Flags()
	flag.DurationVar(&config.IdleTimeout, "idle-timeout", config.IdleTimeout, "end a connection without frames")
	flag.DurationVar(&config.CreationTimeout, "creation-timeout", config.CreationTimeout, "wait for the client's streams")
	flag.DurationVar(&config.Main.Interval, "attach-interval", config.Main.Interval, "time between lines of the container's main program; 0: none")
	flag.DurationVar(&config.Forwarder.Grace, "forward-grace", config.Forwarder.Grace, "port-forward: wait for the second direction once the first has ended, as containerd; negative: carry half-close on")
	flag.BoolVar(&config.Main.TTY, "attach-tty", false, "the container's main program has a terminal")
	flag.BoolVar(&config.Main.StdinOnce, "stdin-once", false, "the end of an attacher's stdin ends the main program's")
	flag.Parse()
	if err := run(config, options); err != nil {
		log.Fatal(err)
	}
}

func run(config kubelet.Config, options *daemon.Options) error {
	if err := configure(&config); err != nil {
		return err
	}
	if *processes {
		config.Runtime.Processes = container.NewProcesses()
		defer config.Runtime.Processes.Stop()
	}
	if *translate {
		streaming, err := kubelet.NewStreaming()
		if err != nil {
			return err
		}
		defer streaming.Close()
		config.Streaming = streaming
	}
	return daemon.Run(kubelet.NewServer(config), options)
}

func configure(config *kubelet.Config) error {
	switch *end {
	case "fin", "reset":
		config.Runtime.EndWithReset = *end == "reset"
		config.Main.EndWithReset = *end == "reset"
	default:
		return fmt.Errorf("-end: expected fin or reset, got %q", *end)
	}
	if *protocols != "" {
		config.Protocols = strings.Split(*protocols, ",")
	}
	return config.Auth.Load(*clientCA, *tokenFile)
}
