// kwh2spec is h2spec, the conformance suite of HTTP/2 servers, built from its public module. It exits with 0 if no case
// failed, and prints what its authors print.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/summerwind/h2spec"
	"github.com/summerwind/h2spec/config"
)

func main() {
	var settings config.Config
	flag.StringVar(&settings.Host, "host", "127.0.0.1", "the server's address")
	flag.IntVar(&settings.Port, "port", 0, "and its port, over TLS")
	flag.StringVar(&settings.Path, "path", "/", "a path whose answer has a body of some length")
	flag.DurationVar(&settings.Timeout, "timeout", 10*time.Second, "to wait for each answer")
	flag.BoolVar(&settings.Strict, "strict", false, "the cases too that RFC 7540 leaves open")
	flag.StringVar(&settings.JUnitReport, "junit", "", "write a report in JUnit's XML to this file")
	flag.Parse()
	settings.TLS, settings.Insecure, settings.MaxHeaderLen = true, true, 4000
	settings.Sections = flag.Args()
	passed, err := h2spec.Run(&settings)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if !passed {
		os.Exit(1)
	}
}
