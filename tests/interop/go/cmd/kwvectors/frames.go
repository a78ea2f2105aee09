package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/moby/spdystream/spdy"

	"kubewire.invalid/interop/internal/source"
)

// vector is the bytes of one direction of a fresh connection, thus with a fresh header compressor.
type vector struct {
	Name   string  `json:"name"`
	Hex    string  `json:"hex"`
	Frames []frame `json:"frames"`
}

// attempts is how often a vector is written anew. The framer walks a header block in the random order of Go's maps;
// the shortest result, and of those the first in byte order, is the same in each run once all orders were seen, and
// each vector has only a handful.
const attempts = 256

// named is a vector to be: frames in the order they are written.
type named struct {
	name   string
	frames func() []spdy.Frame // made anew for each attempt: writing changes them
}

func frameVectors() ([]vector, error) {
	var vectors []vector
	for _, group := range [][]named{opening(), replies(), resets(), connectionWide(), dataFrames(), contexts()} {
		for _, n := range group {
			wire, err := steady(n.frames)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", n.name, err)
			}
			frames, err := decode(wire)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", n.name, err)
			}
			vectors = append(vectors, vector{Name: n.name, Hex: hex.EncodeToString(wire), Frames: frames})
		}
	}
	return vectors, nil
}

func steady(frames func() []spdy.Frame) ([]byte, error) {
	var best []byte
	for range attempts {
		var wire bytes.Buffer
		framer, err := spdy.NewFramer(&wire, nil)
		if err != nil {
			return nil, err
		}
		for _, f := range frames() {
			if err := framer.WriteFrame(f); err != nil {
				return nil, err
			}
		}
		if best == nil || wire.Len() < len(best) || wire.Len() == len(best) && bytes.Compare(wire.Bytes(), best) < 0 {
			best = wire.Bytes()
		}
	}
	return best, nil
}

func opening() []named {
	syn := func(flags spdy.ControlFlags, priority, slot uint8, parent spdy.StreamId) func() []spdy.Frame {
		return func() []spdy.Frame {
			return []spdy.Frame{&spdy.SynStreamFrame{
				CFHeader: spdy.ControlFrameHeader{Flags: flags}, StreamId: 1, AssociatedToStreamId: parent,
				Priority: priority, Slot: slot, Headers: http.Header{"streamtype": {"error"}},
			}}
		}
	}
	const both = spdy.ControlFlagFin | spdy.ControlFlagUnidirectional
	vectors := []named{
		{"syn-stream", syn(0, 0, 0, 0)},
		{"syn-stream-fin", syn(spdy.ControlFlagFin, 0, 0, 0)},
		{"syn-stream-unidirectional", syn(spdy.ControlFlagUnidirectional, 0, 0, 0)},
		{"syn-stream-fin-unidirectional", syn(both, 0, 0, 0)},
		{"syn-stream-associated", syn(spdy.ControlFlagUnidirectional, 0, 0, 0x7fffffff)},
		{"syn-stream-slot", syn(0, 0, 255, 0)},
	}
	for priority := range uint8(8) {
		vectors = append(vectors, named{fmt.Sprintf("syn-stream-priority-%d", priority), syn(0, priority, 0, 0)})
	}
	long, _ := io.ReadAll(source.Random(1500, "long header value")) // a LimitReader of a generator cannot fail
	return append(vectors,
		one("syn-stream-no-headers", func() spdy.Frame {
			return &spdy.SynStreamFrame{StreamId: 1, Headers: http.Header{}}
		}),
		one("syn-stream-last-id", func() spdy.Frame {
			return &spdy.SynStreamFrame{StreamId: 0x7fffffff, Headers: http.Header{"streamtype": {"error"}}}
		}),
		one("syn-stream-mixed-case-name", func() spdy.Frame { // lower case on the wire
			return &spdy.SynStreamFrame{StreamId: 1, Headers: http.Header{"streamType": {"error"}}}
		}),
		one("syn-stream-several-headers", func() spdy.Frame {
			return &spdy.SynStreamFrame{StreamId: 3, Headers: http.Header{
				"streamtype": {"data"}, "port": {"8080"}, "requestid": {"0"},
			}}
		}),
		one("syn-stream-several-values", func() spdy.Frame {
			return &spdy.SynStreamFrame{StreamId: 3, Headers: http.Header{
				"accept": {"text/plain", "", "image/png"}, "empty": {""},
			}}
		}),
		one("syn-stream-utf-8-value", func() spdy.Frame {
			return &spdy.SynStreamFrame{StreamId: 3, Headers: http.Header{"note": {"größe ≤ 5 µs"}}}
		}),
		one("syn-stream-long-value", func() spdy.Frame { // hardly compressible, yet far under 4 KiB
			return &spdy.SynStreamFrame{StreamId: 3, Headers: http.Header{"long": {hex.EncodeToString(long)}}}
		}),
		one("syn-stream-repetitive-value", func() spdy.Frame { // inflates to more than 400 times its size
			return &spdy.SynStreamFrame{StreamId: 3, Headers: http.Header{"long": {strings.Repeat("a", 60000)}}}
		}),
	)
}

func replies() []named {
	fin := spdy.ControlFrameHeader{Flags: spdy.ControlFlagFin}
	return []named{
		one("syn-reply-no-headers", func() spdy.Frame {
			return &spdy.SynReplyFrame{StreamId: 1, Headers: http.Header{}}
		}),
		one("syn-reply-fin", func() spdy.Frame {
			return &spdy.SynReplyFrame{CFHeader: fin, StreamId: 1, Headers: http.Header{}}
		}),
		one("syn-reply-headers", func() spdy.Frame {
			return &spdy.SynReplyFrame{StreamId: 1, Headers: http.Header{"status": {"200 OK"}, "version": {"HTTP/1.1"}}}
		}),
		one("headers", func() spdy.Frame {
			return &spdy.HeadersFrame{StreamId: 1, Headers: http.Header{"date": {"Mon, 01 Jan 2001 00:00:00 GMT"}}}
		}),
		one("headers-fin", func() spdy.Frame {
			return &spdy.HeadersFrame{CFHeader: fin, StreamId: 2, Headers: http.Header{"trailer": {"end"}}}
		}),
		one("headers-no-headers", func() spdy.Frame {
			return &spdy.HeadersFrame{StreamId: 1, Headers: http.Header{}}
		}),
	}
}

func resets() []named {
	var vectors []named
	for status := spdy.ProtocolError; status <= spdy.FrameTooLarge; status++ {
		vectors = append(vectors, one(fmt.Sprintf("rst-stream-%d", status), func() spdy.Frame {
			return &spdy.RstStreamFrame{StreamId: 5, Status: status}
		}))
	}
	return vectors
}

func connectionWide() []named {
	vectors := []named{
		one("settings-empty", func() spdy.Frame { return &spdy.SettingsFrame{} }),
		one("settings-all", func() spdy.Frame {
			f := &spdy.SettingsFrame{}
			for id := spdy.SettingsUploadBandwidth; id <= spdy.SettingsClientCretificateVectorSize; id++ {
				entry := spdy.SettingsFlagIdValue{Flag: spdy.SettingsFlag(id % 3), Id: id, Value: 1 << (4 * uint(id-1))}
				f.FlagIdValues = append(f.FlagIdValues, entry)
			}
			return f
		}),
		one("settings-clear", func() spdy.Frame {
			return &spdy.SettingsFrame{
				CFHeader: spdy.ControlFrameHeader{Flags: spdy.ControlFlagSettingsClearSettings},
				FlagIdValues: []spdy.SettingsFlagIdValue{
					{Flag: spdy.FlagSettingsPersistValue, Id: spdy.SettingsInitialWindowSize, Value: 0xffffffff},
				},
			}
		}),
		one("window-update", func() spdy.Frame {
			return &spdy.WindowUpdateFrame{StreamId: 1, DeltaWindowSize: 65536}
		}),
		one("window-update-largest", func() spdy.Frame {
			return &spdy.WindowUpdateFrame{StreamId: 0x7fffffff, DeltaWindowSize: 0x7fffffff}
		}),
		one("window-update-session", func() spdy.Frame {
			return &spdy.WindowUpdateFrame{StreamId: 0, DeltaWindowSize: 1}
		}),
	}
	for _, id := range []uint32{1, 2, 0x7fffffff, 0xffffffff} {
		vectors = append(vectors, one(fmt.Sprintf("ping-%d", id), func() spdy.Frame { return &spdy.PingFrame{Id: id} }))
	}
	for status := spdy.GoAwayOK; status <= spdy.GoAwayInternalError; status++ {
		vectors = append(vectors, one(fmt.Sprintf("goaway-%d", status), func() spdy.Frame {
			return &spdy.GoAwayFrame{LastGoodStreamId: 9, Status: status}
		}))
	}
	return append(vectors, one("goaway-no-stream", func() spdy.Frame { return &spdy.GoAwayFrame{} }))
}

func dataFrames() []named {
	var vectors []named
	for _, length := range []int64{0, 1, 1000} {
		payload, _ := io.ReadAll(source.Random(length, "payload")) // as above
		for _, flags := range []spdy.DataFlags{0, spdy.DataFlagFin} {
			name := fmt.Sprintf("data-%d", length)
			if flags != 0 {
				name += "-fin"
			}
			vectors = append(vectors, one(name, func() spdy.Frame {
				return &spdy.DataFrame{StreamId: 3, Flags: flags, Data: payload}
			}))
		}
	}
	return append(vectors, one("data-last-id", func() spdy.Frame {
		return &spdy.DataFrame{StreamId: 0x7fffffff, Data: []byte("x")}
	}))
}

// contexts are sequences in which header blocks share one compressor, so each needs all blocks before it.
func contexts() []named {
	typed := func(id spdy.StreamId, kind string) spdy.Frame {
		return &spdy.SynStreamFrame{StreamId: id, Headers: http.Header{"streamtype": {kind}}}
	}
	reply := func(id spdy.StreamId) spdy.Frame { return &spdy.SynReplyFrame{StreamId: id, Headers: http.Header{}} }
	return []named{
		{"context-exec-streams", func() []spdy.Frame {
			return []spdy.Frame{
				typed(1, "error"), typed(3, "stdin"), typed(5, "stdout"), typed(7, "stderr"), typed(9, "resize"),
			}
		}},
		{"context-replies", func() []spdy.Frame {
			return []spdy.Frame{reply(1), reply(3), reply(5), reply(7), reply(9)}
		}},
		{"context-all-three-types", func() []spdy.Frame {
			return []spdy.Frame{
				typed(2, "stdout"),
				&spdy.HeadersFrame{StreamId: 2, Headers: http.Header{"streamtype": {"again"}}},
				reply(1),
				&spdy.HeadersFrame{StreamId: 1, Headers: http.Header{"port": {"8080"}}},
				typed(4, "stdout"),
			}
		}},
		{"context-between-other-frames", func() []spdy.Frame {
			return []spdy.Frame{
				&spdy.PingFrame{Id: 1},
				typed(1, "data"),
				&spdy.DataFrame{StreamId: 1, Data: []byte("between")},
				&spdy.SynStreamFrame{StreamId: 3, Headers: http.Header{"requestid": {"1", "2"}}},
				&spdy.RstStreamFrame{StreamId: 1, Status: spdy.Cancel},
				typed(5, "data"),
				&spdy.DataFrame{StreamId: 5, Flags: spdy.DataFlagFin},
				&spdy.GoAwayFrame{},
			}
		}},
	}
}

func one(name string, f func() spdy.Frame) named {
	return named{name, func() []spdy.Frame { return []spdy.Frame{f()} }}
}
