package kubelet

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

const execQuery = "/exec/default/demo/main?output=1&error=1&"

func serve(t *testing.T, config Config) string {
	server := httptest.NewServer(NewServer(config).Handler)
	t.Cleanup(server.Close)
	return "ws" + strings.TrimPrefix(server.URL, "http")
}

// converse runs one command and returns what came on each channel, the start-up message apart.
func converse(t *testing.T, url, protocol string) (channels [5]string, opcode int) {
	t.Helper()
	dialer := websocket.Dialer{HandshakeTimeout: 10 * time.Second}
	if protocol != "" {
		dialer.Subprotocols = []string{protocol}
	}
	conn, response, err := dialer.Dial(url, nil)
	if err != nil {
		t.Fatalf("%s: %v, %v", protocol, err, response)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if got := response.Header.Values("Sec-WebSocket-Protocol"); len(got) != 1 || got[0] != protocol {
		t.Errorf("%q: the answer names %q", protocol, got)
	}
	for first := true; ; first = false {
		kind, message, err := conn.ReadMessage()
		if websocket.IsCloseError(err, websocket.CloseNormalClosure) {
			return channels, opcode
		}
		if err != nil {
			t.Fatalf("%q: expected messages and close code 1000, got %v", protocol, err)
		}
		channel, data := message[0], message[1:]
		if kind == websocket.TextMessage {
			channel -= '0'
			if data, err = base64.StdEncoding.DecodeString(string(data)); err != nil {
				t.Fatal(err)
			}
		}
		if first && (channel != 1 || len(data) > 0) {
			t.Errorf("%q: expected an empty message on channel 1 first, got %q on %d", protocol, data, channel)
		}
		channels[channel] += string(data)
		opcode = kind
	}
}

func TestProtocolsOfTheStreamingServer(t *testing.T) {
	url := serve(t, Defaults())
	for protocol, expect := range map[string]struct {
		opcode          int
		success, failed string
	}{
		"":                         {websocket.BinaryMessage, "", "command terminated with non-zero exit code: "},
		"channel.k8s.io":           {websocket.BinaryMessage, "", "command terminated with non-zero exit code: "},
		"base64.channel.k8s.io":    {websocket.TextMessage, "", "command terminated with non-zero exit code: "},
		"v4.channel.k8s.io":        {websocket.BinaryMessage, `{"status":"Success"}`, `{"status":"Failure",`},
		"v4.base64.channel.k8s.io": {websocket.TextMessage, `{"status":"Success"}`, `{"status":"Failure",`},
	} {
		channels, opcode := converse(t, url+execQuery+"command=both&command=1", protocol)
		if channels != [5]string{1: "out 0\n", 2: "err 0\n", 3: expect.success} || opcode != expect.opcode {
			t.Errorf("%q: unexpected %q in messages of type %d", protocol, channels, opcode)
		}
		channels, _ = converse(t, url+execQuery+"command=exit&command=3", protocol)
		if !strings.HasPrefix(channels[3], expect.failed) {
			t.Errorf("%q: expected %q first on channel 3, got %q", protocol, expect.failed, channels[3])
		}
	}
}

func TestProtocolsThatAreRefused(t *testing.T) {
	url := serve(t, Defaults())
	for _, protocol := range []string{"v5.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "chat"} {
		dialer := websocket.Dialer{Subprotocols: []string{protocol}, HandshakeTimeout: 10 * time.Second}
		_, response, err := dialer.Dial(url+execQuery+"command=true", nil)
		if err == nil || response.StatusCode != http.StatusForbidden || response.ContentLength != -1 {
			t.Errorf("%s: expected 403 without a length, got %v, %v", protocol, err, response)
		}
	}
}

func TestTranslatorTakesVersion5(t *testing.T) {
	config := Defaults()
	streaming, err := NewStreaming()
	if err != nil {
		t.Fatal(err)
	}
	defer streaming.Close()
	config.Streaming = streaming
	url := serve(t, config)
	channels, _ := converse(t, url+execQuery+"command=echo&command=hello", "v5.channel.k8s.io")
	if channels != [5]string{1: "hello\n", 3: `{"metadata":{},"status":"Success"}`} {
		t.Errorf("unexpected %q", channels)
	}
	channels, _ = converse(t, url+execQuery+"command=echo&command=hello", "v4.channel.k8s.io")
	if channels[3] != `{"status":"Success"}` {
		t.Errorf("expected v4 to pass by the translator, got %q", channels[3])
	}
	if len(streaming.sessions) > 0 {
		t.Errorf("%d sessions were left behind", len(streaming.sessions))
	}
}

func TestTokenAmongTheSubprotocols(t *testing.T) {
	config := Defaults()
	config.Auth.Token = "geheim≤"
	url := serve(t, config) + execQuery + "command=true"
	named := func(token string) string {
		return "base64url.bearer.authorization.k8s.io." + base64.RawURLEncoding.EncodeToString([]byte(token))
	}
	for _, attempt := range []struct {
		protocols []string
		status    int
	}{
		{[]string{named("geheim≤"), "v4.channel.k8s.io"}, 101},
		{[]string{"v4.channel.k8s.io", named("geheim≤")}, 101},
		{[]string{named("wrong"), "v4.channel.k8s.io"}, 401},
		{[]string{named("geheim≤")}, 401},
		{[]string{named("geheim≤"), named("geheim≤"), "v4.channel.k8s.io"}, 401},
		{[]string{"v4.channel.k8s.io"}, 401},
	} {
		dialer := websocket.Dialer{Subprotocols: attempt.protocols, HandshakeTimeout: 10 * time.Second}
		conn, response, err := dialer.Dial(url, nil)
		if response == nil || response.StatusCode != attempt.status {
			t.Errorf("%q: expected %d, got %v, %v", attempt.protocols, attempt.status, err, response)
			continue
		}
		var head bytes.Buffer
		response.Header.Write(&head)
		if strings.Contains(head.String(), "bearer") {
			t.Errorf("%q: the token is named in the answer: %s", attempt.protocols, head.String())
		}
		if conn == nil {
			if body, _ := io.ReadAll(response.Body); string(body) != "Unauthorized" {
				t.Errorf("%q: unexpected body %q", attempt.protocols, body)
			}
			continue
		}
		if conn.Subprotocol() != "v4.channel.k8s.io" {
			t.Errorf("%q: got subprotocol %q", attempt.protocols, conn.Subprotocol())
		}
		conn.Close()
	}
}
