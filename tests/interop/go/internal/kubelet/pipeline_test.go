package kubelet

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/moby/spdystream/spdy"
)

// A client may send all its SYN_STREAM frames in one write and only then wait for the replies, which saves a round
// trip per stream. client-go does not, so nothing but this test says that the server copes: that it answers each
// stream, whatever the order, and runs the command.
func TestPipelinedStreams(t *testing.T) {
	server := NewServer(Defaults())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go server.Serve(listener)
	rounds := 1000
	if testing.Short() {
		rounds = 100
	}
	reordered := 0
	for round := range rounds {
		order, err := pipelined(listener.Addr().String())
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if order != "[1 3 5 7]" {
			reordered++
		}
	}
	t.Logf("%d of %d sessions had their replies in another order than their streams", reordered, rounds)
}

// pipelined runs one cat and returns the order of the replies.
func pipelined(address string) (string, error) {
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	reader, err := upgrade(conn)
	if err != nil {
		return "", err
	}
	var wire bytes.Buffer
	framer, err := spdy.NewFramer(&wire, reader)
	if err != nil {
		return "", err
	}
	for i, kind := range []string{"error", "stdin", "stdout", "stderr"} {
		framer.WriteFrame(&spdy.SynStreamFrame{
			StreamId: spdy.StreamId(2*i + 1), Headers: http.Header{"streamtype": {kind}},
		}) // a buffer takes everything
	}
	if _, err := conn.Write(wire.Bytes()); err != nil {
		return "", err
	}
	var order []spdy.StreamId
	for len(order) < 4 {
		frame, err := framer.ReadFrame()
		if err != nil {
			return "", fmt.Errorf("after the replies %v: %w", order, err)
		}
		if reply, ok := frame.(*spdy.SynReplyFrame); ok {
			order = append(order, reply.StreamId)
		}
	}
	wire.Reset()
	framer.WriteFrame(&spdy.DataFrame{StreamId: 3, Data: []byte("through"), Flags: spdy.DataFlagFin})
	if _, err := conn.Write(wire.Bytes()); err != nil {
		return "", err
	}
	output := map[spdy.StreamId]string{}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return "", fmt.Errorf("before GOAWAY, after %v: %w", output, err)
		}
		switch f := frame.(type) {
		case *spdy.DataFrame:
			output[f.StreamId] += string(f.Data)
		case *spdy.GoAwayFrame:
			if output[1] != `{"status":"Success"}` || output[5] != "through" {
				return "", fmt.Errorf("expected success and the input back, got %v", output)
			}
			return fmt.Sprint(order), nil
		}
	}
}

func upgrade(conn net.Conn) (io.Reader, error) {
	const request = "POST /exec/default/demo/main?command=cat&input=1&output=1&error=1 HTTP/1.1\r\nHost: kubelet\r\n" +
		"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("expected 101, got %s", response.Status)
	}
	return reader, nil
}
