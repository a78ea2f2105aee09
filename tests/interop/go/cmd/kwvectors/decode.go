package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/moby/spdystream/spdy"
)

// frame is the meaning of one frame. Offset is where it begins in its vector; Length is the length field of its
// header, so it ends at Offset + 8 + Length. A field that its type does not have is absent.
type frame struct {
	Type     string `json:"type"`
	Offset   int    `json:"offset"`
	Length   int    `json:"length"`
	Flags    int    `json:"flags"`
	StreamID uint32 `json:"stream_id,omitempty"`

	AssociatedTo *uint32  `json:"associated_to,omitempty"` // SYN_STREAM
	Priority     *uint8   `json:"priority,omitempty"`      // SYN_STREAM, 0 is the highest
	Slot         *uint8   `json:"slot,omitempty"`          // SYN_STREAM
	Headers      *headers `json:"headers,omitempty"`       // SYN_STREAM, SYN_REPLY, HEADERS

	Status   *uint32  `json:"status,omitempty"`              // RST_STREAM, GOAWAY
	LastGood *uint32  `json:"last_good_stream_id,omitempty"` // GOAWAY
	PingID   uint32   `json:"ping_id,omitempty"`             // PING
	Entries  *entries `json:"entries,omitempty"`             // SETTINGS
	Delta    *uint32  `json:"delta,omitempty"`               // WINDOW_UPDATE
	SHA256   string   `json:"sha256,omitempty"`              // DATA: digest of the payload
}

// headers is [[name, [value, ...]], ...] in the order of the names, which is not the order on the wire.
type headers [][2]any

// entries is [[flags, id, value], ...] in the order on the wire.
type entries [][3]uint32

// errCut says that the bytes end inside a frame.
var errCut = errors.New("the last frame is cut")

// decode reads all of wire as one direction of a connection.
func decode(wire []byte) ([]frame, error) {
	reader := bytes.NewReader(wire)
	framer, err := spdy.NewFramer(nil, reader)
	if err != nil {
		return nil, err
	}
	var frames []frame
	for reader.Len() > 0 {
		offset := len(wire) - reader.Len()
		if reader.Len() < 8 {
			return nil, fmt.Errorf("offset %d: %w", offset, errCut)
		}
		word := binary.BigEndian.Uint32(wire[offset+4:])
		result := frame{Offset: offset, Flags: int(word >> 24), Length: int(word & 0xffffff)}
		if reader.Len() < 8+result.Length {
			return nil, fmt.Errorf("offset %d: %w", offset, errCut)
		}
		decoded, err := framer.ReadFrame()
		if err != nil {
			return nil, fmt.Errorf("offset %d: %w", offset, err)
		}
		describe(&result, decoded)
		if end := len(wire) - reader.Len(); end != offset+8+result.Length {
			return nil, fmt.Errorf("offset %d: framer stopped at %d instead of %d", offset, end, offset+8+result.Length)
		}
		frames = append(frames, result)
	}
	return frames, nil
}

func describe(result *frame, decoded spdy.Frame) {
	switch f := decoded.(type) {
	case *spdy.SynStreamFrame:
		result.Type, result.StreamID = "SYN_STREAM", uint32(f.StreamId)
		result.AssociatedTo, result.Priority, result.Slot = (*uint32)(&f.AssociatedToStreamId), &f.Priority, &f.Slot
		result.Headers = sorted(f.Headers)
	case *spdy.SynReplyFrame:
		result.Type, result.StreamID, result.Headers = "SYN_REPLY", uint32(f.StreamId), sorted(f.Headers)
	case *spdy.HeadersFrame:
		result.Type, result.StreamID, result.Headers = "HEADERS", uint32(f.StreamId), sorted(f.Headers)
	case *spdy.RstStreamFrame:
		result.Type, result.StreamID, result.Status = "RST_STREAM", uint32(f.StreamId), (*uint32)(&f.Status)
	case *spdy.GoAwayFrame:
		result.Type, result.Status = "GOAWAY", (*uint32)(&f.Status)
		result.LastGood = (*uint32)(&f.LastGoodStreamId)
	case *spdy.PingFrame:
		result.Type, result.PingID = "PING", f.Id
	case *spdy.WindowUpdateFrame:
		result.Type, result.StreamID, result.Delta = "WINDOW_UPDATE", uint32(f.StreamId), &f.DeltaWindowSize
	case *spdy.SettingsFrame:
		result.Type, result.Entries = "SETTINGS", &entries{}
		for _, e := range f.FlagIdValues {
			*result.Entries = append(*result.Entries, [3]uint32{uint32(e.Flag), uint32(e.Id), e.Value})
		}
	case *spdy.DataFrame:
		digest := sha256.Sum256(f.Data)
		result.Type, result.StreamID, result.SHA256 = "DATA", uint32(f.StreamId), hex.EncodeToString(digest[:])
	}
}

// sorted lists the pairs by name, in lower case as they are on the wire; the framer hands them out as Go spells them.
func sorted(h http.Header) *headers {
	result := headers{}
	for name, values := range h {
		result = append(result, [2]any{strings.ToLower(name), values})
	}
	slices.SortFunc(result, func(a, b [2]any) int { return strings.Compare(a[0].(string), b[0].(string)) })
	return &result
}
