// Command kwcri is a private containerd with real containers, and a kubelet's exec, attach and port-forward in front of
// its streaming server. It starts containerd, prints one JSON line when both are ready, answers lines on its stdin, and
// when stdin closes or SIGTERM comes it removes every pod that was made and stops containerd: nothing outlives the test
// that started it, however that ended.
//
// A line of stdin is a call of the container runtime interface, such as
// {"method": "RuntimeService/ListContainers", "request": {}}; it is answered by {"response": ...} or {"error": "..."}.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"os"

	"kubewire.invalid/interop/internal/cri"
	"kubewire.invalid/interop/internal/daemon"
)

var (
	config    = flag.String("config", "", "containerd's configuration file")
	socket    = flag.String("socket", "", "containerd's socket, as the configuration has it")
	folder    = flag.String("remove", "", "folder to remove in the end, such as the one that containerd keeps its data in")
	clientCA  = flag.String("client-ca", "", "authority of client certificates, PEM; none are accepted without it")
	tokenFile = flag.String("token-file", "", "file with the bearer token to accept")
	translate = flag.Bool("translate", false, "translate WebSocket v5 to SPDY, as a kubelet of 1.36 or newer does")
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("kwcri: ")
	options := daemon.Flags()
	flag.Parse()
	if err := run(options); err != nil {
		log.Fatal(err)
	}
}

func run(options *daemon.Options) (err error) {
	if *folder != "" {
		defer func() { err = errors.Join(err, os.RemoveAll(*folder)) }()
	}
	containerd, err := cri.Start(context.Background(), *config, *socket)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, containerd.Stop()) }()
	kubelet := cri.Kubelet{Runtime: containerd.Runtime, Translate: *translate}
	if err := kubelet.Auth.Load(*clientCA, *tokenFile); err != nil {
		return err
	}
	options.Answer = func(line string) (any, error) { return containerd.Answer(line), nil }
	return daemon.Run(kubelet.NewServer(), options)
}
