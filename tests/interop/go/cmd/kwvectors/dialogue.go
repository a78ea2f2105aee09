package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	spdytransport "k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"

	"kubewire.invalid/interop/internal/kubelet"
)

// deadline bounds one dialogue; they take milliseconds.
const deadline = 30 * time.Second

// scenario is one exec to record. The streams that are asked for follow from stdin (nil: none), tty and sizes.
type scenario struct {
	name     string
	protocol string
	command  []string
	stdin    *string
	tty      bool
	sizes    []remotecommand.TerminalSize
	reset    bool // the runtime leaves its outputs open
}

// dialogue is a recorded exec: both heads, then both directions of SPDY, and what client-go made of it. ExitCode is
// absent when client-go reported an error that is no exit code. Steps is the order in which the bytes were seen
// between the two, as runs of one side; it counts SPDY bytes only.
type dialogue struct {
	Name         string    `json:"name"`
	Protocol     string    `json:"protocol"`
	Command      []string  `json:"command"`
	TTY          bool      `json:"tty"`
	Stdin        *string   `json:"stdin"`
	Stdout       string    `json:"stdout"`
	Stderr       string    `json:"stderr"`
	ExitCode     *int      `json:"exit_code"`
	Error        string    `json:"error"`
	RequestHead  string    `json:"request_head"`
	ResponseHead string    `json:"response_head"`
	Client       direction `json:"client"`
	Server       direction `json:"server"`
	Steps        []step    `json:"steps"`
}

type direction struct {
	Hex    string  `json:"hex"`
	Frames []frame `json:"frames"`
}

type step struct {
	From  string `json:"from"`
	Bytes int    `json:"bytes"`
}

func scenarios() []scenario {
	text := "hello, kubelet\n"
	sizes := []remotecommand.TerminalSize{{Width: 80, Height: 24}, {Width: 132, Height: 43}}
	list := []scenario{
		{name: "v4-exit-0", protocol: "v4.channel.k8s.io", command: []string{"cat"}, stdin: &text},
		{name: "v4-exit-3", protocol: "v4.channel.k8s.io", command: []string{"exit", "3"}},
		{name: "v4-both-outputs", protocol: "v4.channel.k8s.io", command: []string{"both", "2"}},
		{name: "v4-outputs-reset", protocol: "v4.channel.k8s.io", command: []string{"both", "2"}, reset: true},
		{name: "v4-internal-error", protocol: "v4.channel.k8s.io", command: []string{"fail", "no such command"}},
		{name: "v4-no-status", protocol: "v4.channel.k8s.io", command: []string{"vanish", "last words"}},
		{name: "v4-tty", protocol: "v4.channel.k8s.io", command: []string{"sizes", "2"}, tty: true, sizes: sizes},
	}
	for version, name := range []string{"channel.k8s.io", "v2.channel.k8s.io", "v3.channel.k8s.io"} {
		success := scenario{name: fmt.Sprintf("v%d-success", version+1), protocol: name, command: []string{"cat"}, stdin: &text}
		if version == 0 { // its client never ends stdin, so cat would never end
			success.command, success.stdin = []string{"echo", text[:len(text)-1]}, nil
		}
		failure := scenario{name: fmt.Sprintf("v%d-failure", version+1), protocol: name, command: []string{"exit", "3"}}
		list = append(list, success, failure)
	}
	return list
}

func captureDialogues() ([]dialogue, error) {
	var dialogues []dialogue
	for _, s := range scenarios() {
		// At the end both sides write RST_STREAM and GOAWAY piece by piece while the other's GOAWAY makes them close
		// the socket, so now and then the last frame is cut. That harms nobody, but it is no golden frame.
		captured, err := capture(s)
		for tries := 1; errors.Is(err, errCut) && tries < 20; tries++ {
			captured, err = capture(s)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		dialogues = append(dialogues, *captured)
	}
	return dialogues, nil
}

func capture(s scenario) (*dialogue, error) {
	config := kubelet.Defaults()
	config.Protocols = []string{s.protocol}
	config.Runtime.EndWithReset = s.reset
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := kubelet.NewServer(config)
	defer server.Close()
	go server.Serve(listener) // returns when the server is closed
	tap, err := newTap(listener.Addr().String())
	if err != nil {
		return nil, err
	}
	result := &dialogue{
		Name: s.name, Protocol: s.protocol, Command: s.command, TTY: s.tty, Stdin: s.stdin, Steps: []step{},
	}
	if err := s.exec(tap.address(), result); err != nil {
		return nil, err
	}
	chunks, err := tap.finish(deadline)
	if err != nil {
		return nil, err
	}
	return result, result.fill(chunks)
}

// exec runs the scenario and keeps what client-go says of it.
func (s *scenario) exec(address string, result *dialogue) error {
	query := url.Values{"command": s.command, "output": {"1"}}
	var stdout, stderr bytes.Buffer
	options := remotecommand.StreamOptions{Stdout: &stdout, Tty: s.tty}
	if s.tty {
		query.Set("tty", "1")
		options.TerminalSizeQueue = &sizeQueue{s.sizes}
	} else {
		query.Set("error", "1")
		options.Stderr = &stderr
	}
	if s.stdin != nil {
		query.Set("input", "1")
		options.Stdin = strings.NewReader(*s.stdin)
	}
	location := &url.URL{Scheme: "http", Host: address, Path: "/exec/default/demo/main", RawQuery: query.Encode()}
	transport, upgrader, err := spdytransport.RoundTripperFor(&restclient.Config{})
	if err != nil {
		return err
	}
	executor, err := remotecommand.NewSPDYExecutorForProtocols(transport, upgrader, "POST", location, s.protocol)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	err = executor.StreamWithContext(ctx, options)
	result.Stdout, result.Stderr = stdout.String(), stderr.String()
	result.ExitCode, result.Error = verdict(err)
	return ctx.Err()
}

// verdict is what client-go made of a session; there is no exit code for an error that is none.
func verdict(err error) (*int, string) {
	var exit exec.CodeExitError
	switch {
	case err == nil:
		return new(int), ""
	case errors.As(err, &exit):
		return &exit.Code, err.Error()
	}
	return nil, err.Error()
}

// fill splits the heads off and decodes the rest.
func (d *dialogue) fill(chunks []chunk) error {
	heads, bodies, steps, err := split(chunks)
	if err != nil {
		return err
	}
	d.RequestHead, d.ResponseHead, d.Steps = heads["client"], heads["server"], steps
	for from, into := range map[string]*direction{"client": &d.Client, "server": &d.Server} {
		frames, err := decode(bodies[from])
		if err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
		*into = direction{Hex: hex.EncodeToString(bodies[from]), Frames: frames}
	}
	return nil
}

// split parts what was seen, by side, into the HTTP head and what follows it, and says in which order that came.
func split(chunks []chunk) (heads map[string]string, bodies map[string][]byte, steps []step, err error) {
	wire, heads, bodies, steps := map[string][]byte{}, map[string]string{}, map[string][]byte{}, []step{}
	for _, c := range chunks {
		wire[c.from] = append(wire[c.from], c.data...)
	}
	skip := map[string]int{}
	for _, from := range []string{"client", "server"} {
		head, body, found := bytes.Cut(wire[from], []byte("\r\n\r\n"))
		if !found {
			return nil, nil, nil, fmt.Errorf("no head from the %s: %q", from, wire[from])
		}
		heads[from], bodies[from] = string(head)+"\r\n\r\n", body
		skip[from] = len(heads[from])
	}
	for _, c := range chunks {
		skipped := min(skip[c.from], len(c.data))
		skip[c.from] -= skipped
		n := len(c.data) - skipped
		last := len(steps) - 1
		switch {
		case n == 0:
		case last >= 0 && steps[last].From == c.from:
			steps[last].Bytes += n
		default:
			steps = append(steps, step{c.from, n})
		}
	}
	return heads, bodies, steps, nil
}

// sizeQueue hands out the given sizes, then says that there will be no more.
type sizeQueue struct{ sizes []remotecommand.TerminalSize }

func (q *sizeQueue) Next() *remotecommand.TerminalSize {
	if len(q.sizes) == 0 {
		return nil
	}
	size := q.sizes[0]
	q.sizes = q.sizes[1:]
	return &size
}
