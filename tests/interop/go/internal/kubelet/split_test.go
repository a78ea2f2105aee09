package kubelet

import (
	"bytes"
	"net/http"
	"testing"
	"testing/iotest"

	"github.com/moby/spdystream/spdy"
)

// A header block may arrive in any number of pieces: the inflater hands out nothing before it has read the block's
// sync marker, so that it never stops in front of it.
func TestHeaderBlocksInPieces(t *testing.T) {
	var wire bytes.Buffer
	writer, err := spdy.NewFramer(&wire, nil)
	if err != nil {
		t.Fatal(err)
	}
	const count = 200
	for id := 1; id <= count; id++ {
		headers := http.Header{"Streamtype": {"error"}, "Port": {"8080"}, "Requestid": {string(rune('0' + id%10))}}
		frame := &spdy.SynStreamFrame{StreamId: spdy.StreamId(2*id - 1), Headers: headers}
		if err := writer.WriteFrame(frame); err != nil {
			t.Fatal(err)
		}
	}
	reader, err := spdy.NewFramer(nil, iotest.OneByteReader(&wire))
	if err != nil {
		t.Fatal(err)
	}
	for id := 1; id <= count; id++ {
		frame, err := reader.ReadFrame()
		if err != nil {
			t.Fatalf("frame %d: %v", id, err)
		}
		if got := frame.(*spdy.SynStreamFrame).Headers.Get("Port"); got != "8080" {
			t.Fatalf("frame %d: port %q", id, got)
		}
	}
}
