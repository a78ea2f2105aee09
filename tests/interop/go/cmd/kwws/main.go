// Command kwws is a WebSocket peer on gorilla/websocket. See tests/support/wsjudges.py for what it is told and what it
// tells.
package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

const (
	protocol   = "v4.channel.k8s.io"
	writeBytes = 1000 // of a fragment: gorilla begins a new one when its buffer is full
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("kwws: ")
	switch {
	case len(os.Args) == 2 && os.Args[1] == "serve":
		log.Fatal(serve())
	case len(os.Args) == 3 && os.Args[1] == "connect":
		dialer := websocket.Dialer{Subprotocols: []string{protocol}, WriteBufferSize: writeBytes}
		conn, _, err := dialer.Dial("ws://127.0.0.1:"+os.Args[2]+"/", nil)
		if err != nil {
			report(nil, "", err)
			return
		}
		talk(conn)
	default:
		log.Fatal("expected: serve, or connect PORT")
	}
}

func serve() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	write(map[string]any{"port": listener.Addr().(*net.TCPAddr).Port})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	upgrader := websocket.Upgrader{Subprotocols: []string{protocol}, WriteBufferSize: writeBytes}
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			report(nil, "", err)
			return
		}
		talk(conn)
	}))
}

// talk echoes and obeys until the connection is over, and reports how it ended.
func talk(conn *websocket.Conn) {
	defer conn.Close()
	conn.SetPongHandler(func(payload string) error { // called by ReadMessage, so nothing else writes
		return conn.WriteMessage(websocket.TextMessage, []byte("pong "+payload))
	})
	for {
		kind, data, err := conn.ReadMessage()
		if err == nil && kind == websocket.TextMessage && bytes.HasPrefix(data, []byte("!")) {
			err = obey(conn, string(data))
		} else if err == nil {
			err = whole(conn, kind, data)
		}
		if err == nil {
			continue
		}
		var closed *websocket.CloseError
		if errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure {
			report(&closed.Code, closed.Text, nil)
		} else {
			report(nil, "", err)
		}
		return
	}
}

// whole writes a message in one frame, whatever the buffer's size.
func whole(conn *websocket.Conn, kind int, data []byte) error {
	message, err := websocket.NewPreparedMessage(kind, data)
	if err != nil {
		return err
	}
	return conn.WritePreparedMessage(message)
}

func obey(conn *websocket.Conn, text string) error {
	words := strings.SplitN(text, " ", 3)
	switch words[0] {
	case "!ping":
		return conn.WriteControl(websocket.PingMessage, []byte(words[1]), time.Now().Add(time.Minute))
	case "!fragments":
		return fragments(conn, words[1])
	case "!close":
		code, err := strconv.Atoi(words[1])
		if err != nil {
			return err
		}
		message := websocket.FormatCloseMessage(code, words[2])
		return conn.WriteControl(websocket.CloseMessage, message, time.Now().Add(time.Minute))
	case "!raw":
		data, err := hex.DecodeString(words[1])
		if err != nil {
			return err
		}
		_, err = conn.NetConn().Write(data)
		return err
	}
	return fmt.Errorf("unknown command %q", text)
}

// fragments writes a message byte by byte, so that there is a fragment for each full buffer.
func fragments(conn *websocket.Conn, count string) error {
	length, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	message, err := conn.NextWriter(websocket.BinaryMessage)
	if err != nil {
		return err
	}
	for i := range length {
		if _, err := message.Write([]byte{byte(i % 251)}); err != nil {
			return err
		}
	}
	return message.Close()
}

func report(code *int, reason string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	write(map[string]any{"code": code, "reason": reason, "error": text})
}

func write(value any) {
	if err := json.NewEncoder(os.Stdout).Encode(value); err != nil {
		log.Fatal(err)
	}
}
