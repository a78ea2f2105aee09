// Command kwfront is exec and attach of a kube-apiserver in front of one kubelet: Kubernetes' own proxy and translator
// behind the paths, names and refusals of an apiserver. It prints one JSON line when it is ready, answers lines on its
// stdin, and stops when stdin closes or on SIGTERM, so it never outlives the test that started it.
//
// The line "cpu" on stdin is answered by one JSON line on stdout: the processor time and memory that the program has
// used so far. The same stands at /debug/cpu.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"

	"kubewire.invalid/interop/internal/apiserver"
	"kubewire.invalid/interop/internal/daemon"
)

var (
	clientCA   = flag.String("client-ca", "", "authority of client certificates, PEM; none are accepted without it")
	tokenFile  = flag.String("token-file", "", "file with the bearer token to accept")
	backend    = flag.String("backend", "", "URL of the kubelet, scheme and host only")
	authority  = flag.String("backend-ca", "", "authority of the kubelet's certificate, PEM; without it, none is verified, as in an apiserver")
	cert       = flag.String("backend-cert", "", "certificate to show to the kubelet, PEM")
	key        = flag.String("backend-key", "", "key of that certificate, PEM")
	pod        = flag.String("pod", "default/demo", "the only pod, as NAMESPACE/NAME")
	containers = flag.String("containers", "main", "comma list of its containers")
	verbs      = flag.String("verbs", "get,create", "comma list of the verbs that users have")
	pass       = flag.Bool("pass-websockets", false, "leave WebSocket v5 to the kubelet, as an apiserver of 1.36 or newer does")
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("kwfront: ")
	options := daemon.Flags()
	flag.Parse()
	config, err := configure()
	if err == nil {
		err = daemon.Run(apiserver.NewServer(*config), options)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func configure() (*apiserver.Config, error) {
	config := &apiserver.Config{
		Containers: strings.Split(*containers, ","), Verbs: strings.Split(*verbs, ","), PassWebSockets: *pass,
	}
	var found bool
	if config.Namespace, config.Pod, found = strings.Cut(*pod, "/"); !found {
		return nil, fmt.Errorf("-pod: expected NAMESPACE/NAME, got %q", *pod)
	}
	location, err := url.Parse(*backend)
	if err != nil || location.Host == "" || location.Scheme != "http" && location.Scheme != "https" {
		return nil, fmt.Errorf("-backend: expected http://HOST:PORT or https://HOST:PORT, got %q", *backend)
	}
	config.Kubelet = location
	if config.Transport, err = transport(); err != nil {
		return nil, err
	}
	return config, config.Auth.Load(*clientCA, *tokenFile)
}

func transport() (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: *authority == ""}
	if *authority != "" {
		pem, err := os.ReadFile(*authority)
		if err != nil {
			return nil, fmt.Errorf("-backend-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("-backend-ca: no certificate in %s", *authority)
		}
	}
	if (*cert == "") != (*key == "") {
		return nil, errors.New("-backend-cert and -backend-key: expected both or neither")
	}
	if *cert != "" {
		pair, err := tls.LoadX509KeyPair(*cert, *key)
		if err != nil {
			return nil, fmt.Errorf("-backend-cert and -backend-key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return &http.Transport{TLSClientConfig: config}, nil
}
