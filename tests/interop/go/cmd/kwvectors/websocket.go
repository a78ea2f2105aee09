package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"

	"kubewire.invalid/interop/internal/apiserver"
	"kubewire.invalid/interop/internal/kubelet"
)

// wsScenario is one exec over WebSocket to record. The client is client-go's executor unless there is a script, for what
// that executor cannot do; the library under both is the same. v5 meets the translator, everything else cri-streaming.
type wsScenario struct {
	name     string
	protocol string // empty: none is asked for
	command  []string
	stdin    *string
	tty      bool
	sizes    []remotecommand.TerminalSize
	script   func(*websocket.Conn) error // what it sends; reading to the end is done for it
	ghost    bool                        // through an apiserver that knows a container which the kubelet does not
}

// wsDialogue is a recorded exec: both heads, then both directions of WebSocket, and what the client made of it, as in
// dialogue. A scripted client makes nothing of it.
type wsDialogue struct {
	Name         string      `json:"name"`
	Peers        string      `json:"peers"`
	Protocol     string      `json:"protocol"`
	Command      []string    `json:"command"`
	TTY          bool        `json:"tty"`
	Stdin        *string     `json:"stdin"`
	Stdout       string      `json:"stdout"`
	Stderr       string      `json:"stderr"`
	ExitCode     *int        `json:"exit_code"`
	Error        string      `json:"error"`
	RequestHead  string      `json:"request_head"`
	ResponseHead string      `json:"response_head"`
	Client       wsDirection `json:"client"`
	Server       wsDirection `json:"server"`
	Steps        []step      `json:"steps"`
}

type wsDirection struct {
	Hex    string    `json:"hex"`
	Frames []wsFrame `json:"frames"`
}

const (
	v5 = "v5.channel.k8s.io"
	v4 = "v4.channel.k8s.io"
)

func wsScenarios() []wsScenario {
	text := "hello, kubelet\n"
	exact := []string{"early-exit", fmt.Sprint(len(text))} // before v5 nothing that reads to the end of stdin ends
	sizes := []remotecommand.TerminalSize{{Width: 80, Height: 24}, {Width: 132, Height: 43}}
	list := []wsScenario{
		{name: "v5-stdin-to-its-end", protocol: v5, command: []string{"cat"}, stdin: &text},
		{name: "v4-stdin", protocol: v4, command: exact, stdin: &text},
		{name: "v4-ping", protocol: v4, command: []string{"sleep", "5.3"}},
		{name: "v4-client-leaves", protocol: v4, command: []string{"sleep", "0.2"}, script: leave},
		{name: "v4-ping-with-text", protocol: v4, command: []string{"sleep", "0.3"}, script: ping},
		{name: "v5-close-of-no-channel", protocol: v5, command: []string{"cat"}, stdin: new(string), script: closeNoChannel},
		{name: "v5-refused-behind-the-translator", protocol: v5, command: []string{"echo"}, ghost: true},
		{name: "v4-base64-stdin", protocol: "v4.base64.channel.k8s.io", command: exact, stdin: &text, script: typeBase64(text)},
		{name: "v4-base64-exit-3", protocol: "v4.base64.channel.k8s.io", command: []string{"exit", "3"}, script: listen},
		{name: "base64-exit-3", protocol: "base64.channel.k8s.io", command: []string{"exit", "3"}, script: listen},
		{name: "v1-exit-0", protocol: "channel.k8s.io", command: []string{"echo", "hello"}, script: listen},
		{name: "v1-exit-3", protocol: "channel.k8s.io", command: []string{"exit", "3"}, script: listen},
		{name: "none-exit-0", command: []string{"echo", "hello"}, script: listen},
	}
	for _, version := range []string{v5, v4} {
		label := version[:2]
		list = append(list,
			wsScenario{name: label + "-exit-0", protocol: version, command: []string{"echo", "hello"}},
			wsScenario{name: label + "-exit-3", protocol: version, command: []string{"exit", "3"}},
			wsScenario{name: label + "-both-outputs", protocol: version, command: []string{"both", "2"}},
			wsScenario{name: label + "-internal-error", protocol: version, command: []string{"fail", "no such command"}},
			wsScenario{name: label + "-no-status", protocol: version, command: []string{"vanish", "last words"}},
			wsScenario{name: label + "-tty", protocol: version, command: []string{"sizes", "2"}, tty: true, sizes: sizes},
		)
	}
	return list
}

// captureWebSockets records them all at once: one waits for the client's first ping, which takes seconds.
func captureWebSockets() ([]wsDialogue, error) {
	scenarios := wsScenarios()
	dialogues, failures := make([]wsDialogue, len(scenarios)), make(chan error, len(scenarios))
	for i, s := range scenarios {
		go func() {
			captured, err := captureWebSocket(s)
			for tries := 1; errors.Is(err, errCut) && tries < 20; tries++ {
				captured, err = captureWebSocket(s)
			}
			if err != nil {
				err = fmt.Errorf("%s: %w", s.name, err)
			} else {
				dialogues[i] = *captured
			}
			failures <- err
		}()
	}
	var failed error
	for range scenarios {
		failed = errors.Join(failed, <-failures)
	}
	return dialogues, failed
}

func captureWebSocket(s wsScenario) (*wsDialogue, error) {
	streaming, err := kubelet.NewStreaming()
	if err != nil {
		return nil, err
	}
	defer streaming.Close()
	config := kubelet.Defaults()
	config.Streaming = streaming
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := kubelet.NewServer(config)
	defer server.Close()
	go server.Serve(listener) // returns when the server is closed
	backend := listener.Addr().String()
	if s.ghost {
		front := newFront(backend)
		defer front.Close()
		backend = front.Listener.Addr().String()
	}
	tap, err := newTap(backend)
	if err != nil {
		return nil, err
	}
	result := &wsDialogue{
		Name: s.name, Protocol: s.protocol, Command: s.command, TTY: s.tty, Stdin: s.stdin, Steps: []step{},
	}
	run, clientSide, serverSide := s.exec, "client-go", "cri-streaming"
	if s.script != nil {
		run, clientSide = s.play, "scripted"
	}
	if s.protocol == v5 {
		serverSide = "translator"
	}
	result.Peers = clientSide + " with " + serverSide
	if err := run(tap.address(), result); err != nil {
		return nil, err
	}
	chunks, err := tap.finish(deadline)
	if err != nil {
		return nil, err
	}
	return result, result.fill(chunks)
}

// newFront starts an apiserver whose pod has a container more than the kubelet's.
func newFront(backend string) *httptest.Server {
	return httptest.NewServer(apiserver.NewServer(apiserver.Config{
		Namespace: "default", Pod: "demo", Containers: []string{"ghost"}, Verbs: []string{"get", "create"},
		Kubelet: &url.URL{Scheme: "http", Host: backend}, Transport: &http.Transport{},
	}).Handler)
}

func (s *wsScenario) location(address string) *url.URL {
	if s.ghost {
		query := url.Values{"command": s.command, "stdout": {"true"}, "stderr": {"true"}, "container": {"ghost"}}
		path := "/api/v1/namespaces/default/pods/demo/exec"
		return &url.URL{Scheme: "http", Host: address, Path: path, RawQuery: query.Encode()}
	}
	query := url.Values{"command": s.command, "output": {"1"}}
	if s.tty {
		query.Set("tty", "1")
	} else {
		query.Set("error", "1")
	}
	if s.stdin != nil {
		query.Set("input", "1")
	}
	return &url.URL{Scheme: "http", Host: address, Path: "/exec/default/demo/main", RawQuery: query.Encode()}
}

// exec runs the scenario by client-go's executor and keeps what that says of it.
func (s *wsScenario) exec(address string, result *wsDialogue) error {
	var stdout, stderr bytes.Buffer
	options := remotecommand.StreamOptions{Stdout: &stdout, Tty: s.tty}
	if s.tty {
		options.TerminalSizeQueue = &sizeQueue{s.sizes}
	} else {
		options.Stderr = &stderr
	}
	if s.stdin != nil {
		options.Stdin = strings.NewReader(*s.stdin)
	}
	executor, err := remotecommand.NewWebSocketExecutorForProtocols(
		&restclient.Config{Proxy: func(*http.Request) (*url.URL, error) { return nil, nil }},
		"GET", s.location(address).String(), s.protocol)
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

// play runs the scenario by its script and reads what comes until the server closes.
func (s *wsScenario) play(address string, _ *wsDialogue) error {
	location := s.location(address)
	location.Scheme = "ws"
	dialer := websocket.Dialer{HandshakeTimeout: deadline}
	if s.protocol != "" {
		dialer.Subprotocols = []string{s.protocol}
	}
	conn, _, err := dialer.Dial(location.String(), nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(deadline))
	if err := s.script(conn); err != nil {
		return err
	}
	for {
		if _, _, err := conn.ReadMessage(); err != nil {
			if websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				return nil
			}
			return err
		}
	}
}

func listen(*websocket.Conn) error { return nil }

func typeBase64(text string) func(*websocket.Conn) error {
	return func(conn *websocket.Conn) error {
		for _, part := range []string{text[:1], text[1:6], text[6:]} { // each message is encoded on its own
			message := "0" + base64.StdEncoding.EncodeToString([]byte(part))
			if err := conn.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
				return err
			}
		}
		return nil
	}
}

func ping(conn *websocket.Conn) error {
	return conn.WriteControl(websocket.PingMessage, []byte("are you there?"), time.Now().Add(deadline))
}

func leave(conn *websocket.Conn) error {
	message := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	return conn.WriteControl(websocket.CloseMessage, message, time.Now().Add(deadline))
}

func closeNoChannel(conn *websocket.Conn) error {
	return conn.WriteMessage(websocket.BinaryMessage, []byte{255, 9})
}

// fill splits the heads off and decodes the rest.
func (d *wsDialogue) fill(chunks []chunk) error {
	heads, bodies, steps, err := split(chunks)
	if err != nil {
		return err
	}
	d.RequestHead, d.ResponseHead, d.Steps = heads["client"], heads["server"], steps
	for from, into := range map[string]*wsDirection{"client": &d.Client, "server": &d.Server} {
		frames, err := decodeWebSocket(bodies[from], strings.Contains(d.Protocol, "base64"))
		if err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
		*into = wsDirection{Hex: hex.EncodeToString(bodies[from]), Frames: frames}
	}
	if frames := d.Server.Frames; len(frames) > 0 && frames[0].Length <= 1 && frames[0].Channel != nil {
		frames[0].Meaning = "start-up"
	}
	return nil
}
