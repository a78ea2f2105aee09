// Command kwclient runs a command, or attaches, through client-go's own executors (SPDY, WebSocket, and kubectl's fallback
// from one to the other), once or many times, and reports what it saw: exit codes, errors, bytes and digests, times,
// processor seconds and memory.
//
// It exits with the remote command's code; with 255 and one line on stderr when there is none; with 2 for wrong usage.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"kubewire.invalid/interop/internal/usage"
)

var (
	target     = flag.String("url", "", "the whole URL of the exec or attach request, query included")
	transport  = flag.String("transport", "spdy", "spdy, websocket, or fallback (WebSocket v5, then SPDY, by kubectl's rules)")
	attach     = flag.Bool("attach", false, "do as kubectl attach: send one size more, a little larger, before those of -resize")
	until      = flag.String("until", "", "leave the session once stdout has carried this text")
	method     = flag.String("method", "POST", "method of the upgrade request over SPDY; over WebSocket it is always GET")
	caFile     = flag.String("ca", "", "authority of the serving certificate, PEM")
	certFile   = flag.String("cert", "", "client certificate, PEM")
	keyFile    = flag.String("key", "", "key of the client certificate, PEM")
	tokenFile  = flag.String("token-file", "", "file with the bearer token to present")
	insecure   = flag.Bool("insecure", false, "do not verify the serving certificate")
	serverName = flag.String("server-name", "", "name to verify in the serving certificate, instead of the URL's host")
	protocols  = flag.String("protocols", "", "protocols to offer, best first: v1 to v5 or full names; empty: v5 to v1 over SPDY, v5 over WebSocket")
	stdin      = flag.String("stdin", "none", "none, - (own stdin), hold or hold:TEXT (nothing or TEXT is sent, and it is never ended), zero:N, random:N:SEED or a file")
	stdout     = flag.String("stdout", "hash", "none, discard (only counted), hash, - (own stdout) or a file")
	stderr     = flag.String("stderr", "hash", "as -stdout")
	tty        = flag.Bool("tty", false, "ask for a terminal")
	resizes    = flag.String("resize", "", "comma list of terminal sizes to send, such as 80x24,132x43")
	repeat     = flag.Int("repeat", 1, "sessions to run, each on a new connection")
	parallel   = flag.Int("parallel", 1, "sessions that run at once")
	timeout    = flag.Duration("timeout", 10*time.Minute, "limit of the time of one session")
	reportFile = flag.String("report", "", "write the report to this file, as JSON")
)

// report is what -report writes. ExitCode and Error are those of the first session that failed. Times are in seconds;
// the processor's are of this whole process between the first session's start and the last one's end.
type report struct {
	ExitCode  int       `json:"exit_code"`
	Error     string    `json:"error"`
	Wall      float64   `json:"wall_seconds"`
	User      float64   `json:"user_seconds"`
	System    float64   `json:"system_seconds"`
	MaxRSSKiB int64     `json:"max_rss_kib"`
	Sessions  []session `json:"sessions"`
}

// session is one exec or attach. Seconds runs from before the dial to the executor's return. Error is empty for exit code
// 0; with a remote exit code it is client-go's text about it. Exited tells a remote exit code from the 255 of other
// errors; it is false, too, for a session that was left because of -until, which is Detached. Transports are those that
// were tried, and FallbackReason is why there are two.
type session struct {
	ExitCode       int      `json:"exit_code"`
	Exited         bool     `json:"exited"`
	Detached       bool     `json:"detached"`
	Error          string   `json:"error"`
	Seconds        float64  `json:"seconds"`
	StdinBytes     int64    `json:"stdin_bytes"`
	Stdout         summary  `json:"stdout"`
	Stderr         summary  `json:"stderr"`
	Transports     []string `json:"transports"`
	FallbackReason string   `json:"fallback_reason"`
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("kwclient: ")
	flag.Parse()
	dial, err := newDialer()
	if err == nil {
		err = checkUsage()
	}
	if err != nil {
		log.Print(err)
		os.Exit(2)
	}
	result := runAll(dial)
	if *reportFile != "" {
		text, err := json.Marshal(result)
		if err == nil {
			err = os.WriteFile(*reportFile, text, 0o600)
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	if result.Error != "" && result.ExitCode == 255 {
		log.Print(result.Error)
	}
	os.Exit(result.ExitCode)
}

func checkUsage() error {
	if _, err := url.ParseRequestURI(*target); err != nil {
		return fmt.Errorf("-url: %w", err)
	}
	if *transport != "spdy" && *transport != "websocket" && *transport != "fallback" {
		return fmt.Errorf("-transport: expected spdy, websocket or fallback, got %q", *transport)
	}
	if *repeat < 1 || *parallel < 1 {
		return fmt.Errorf("-repeat and -parallel: expected at least 1")
	}
	if _, err := parseSizes(*resizes); err != nil {
		return err
	}
	for name, value := range map[string]string{"-stdin": *stdin, "-stdout": *stdout, "-stderr": *stderr} {
		if *repeat > 1 && value == "-" {
			return fmt.Errorf("%s: - cannot be shared by several sessions", name)
		}
	}
	return nil
}

func runAll(dial *dialer) report {
	sessions := make([]session, *repeat)
	indexes := make(chan int)
	before, start := usage.Now(), time.Now()
	var workers sync.WaitGroup
	for range min(*parallel, *repeat) {
		workers.Go(func() {
			for i := range indexes {
				sessions[i] = dial.runOne(context.Background())
			}
		})
	}
	for i := range sessions {
		indexes <- i
	}
	close(indexes)
	workers.Wait()
	wall, after := time.Since(start).Seconds(), usage.Now()
	result := report{
		Wall: wall, User: after.User - before.User, System: after.System - before.System, MaxRSSKiB: after.MaxRSSKiB,
		Sessions: sessions,
	}
	for _, s := range sessions {
		if s.Error != "" {
			result.ExitCode, result.Error = s.ExitCode, s.Error
			break
		}
	}
	return result
}

// protocolNames turns "v4,v1" into the names on the wire; what it does not know it passes on, so that a test can offer
// a protocol that does not exist.
func protocolNames(list string) []string {
	names := strings.Split(list, ",")
	for i, name := range names {
		switch name {
		case "v1":
			names[i] = "channel.k8s.io"
		case "v2", "v3", "v4", "v5":
			names[i] = name + ".channel.k8s.io"
		}
	}
	return names
}
