package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"unicode/utf8"
)

// wsFrame is the meaning of one WebSocket frame. Offset is where it begins in its direction, Length the length of its
// payload. Payload is unmasked.
type wsFrame struct {
	Opcode  int    `json:"opcode"`
	Fin     bool   `json:"fin"`
	Masked  bool   `json:"masked"`
	Key     string `json:"key,omitempty"`
	Offset  int    `json:"offset"`
	Length  int    `json:"length"`
	Payload string `json:"payload"`

	Channel *int    `json:"channel,omitempty"` // of data frames
	Data    *string `json:"data,omitempty"`    // what follows the channel, base64 undone; absent when it is no text
	Code    *int    `json:"code,omitempty"`    // of close frames that have one
	Meaning string  `json:"meaning"`
}

// decodeWebSocket reads all of wire as one direction of a connection (RFC 6455, section 5.2). The library's own readers
// are of no use: they hide masks, offsets and control frames.
func decodeWebSocket(wire []byte, asBase64 bool) ([]wsFrame, error) {
	frames := []wsFrame{}
	for offset := 0; offset < len(wire); {
		f, size, err := decodeFrame(wire[offset:])
		if err != nil {
			return nil, fmt.Errorf("offset %d: %w", offset, err)
		}
		f.Offset = offset
		if err := f.describe(asBase64); err != nil {
			return nil, fmt.Errorf("offset %d: %w", offset, err)
		}
		frames = append(frames, f)
		offset += size
	}
	return frames, nil
}

func decodeFrame(wire []byte) (f wsFrame, size int, err error) {
	if len(wire) < 2 {
		return f, 0, errCut
	}
	if wire[0]&0x70 != 0 {
		return f, 0, fmt.Errorf("reserved bits are set in %#02x", wire[0])
	}
	f.Fin, f.Opcode, f.Masked, f.Length = wire[0]&0x80 != 0, int(wire[0]&0x0f), wire[1]&0x80 != 0, int(wire[1]&0x7f)
	size = 2
	wide := map[int]int{126: 2, 127: 8}[f.Length]
	if len(wire) < size+wide {
		return f, 0, errCut
	}
	if wide > 0 {
		field := make([]byte, 8)
		copy(field[8-wide:], wire[size:])
		f.Length = int(binary.BigEndian.Uint64(field))
	}
	size += wide
	var key []byte
	if f.Masked {
		if len(wire) < size+4 {
			return f, 0, errCut
		}
		key = wire[size : size+4]
		f.Key = hex.EncodeToString(key)
		size += 4
	}
	if f.Length < 0 || len(wire)-size < f.Length {
		return f, 0, errCut
	}
	payload := append([]byte(nil), wire[size:size+f.Length]...)
	for i := range payload {
		if f.Masked {
			payload[i] ^= key[i%4]
		}
	}
	f.Payload = hex.EncodeToString(payload)
	return f, size + f.Length, nil
}

var channelNames = []string{"stdin", "stdout", "stderr", "status", "resize"}

// describe fills in what Kubernetes' protocols make of the frame.
func (f *wsFrame) describe(asBase64 bool) error {
	payload, err := hex.DecodeString(f.Payload)
	if err != nil {
		return err
	}
	switch f.Opcode {
	case 1, 2:
	case 8:
		f.Meaning = "close"
		if len(payload) >= 2 {
			code := int(binary.BigEndian.Uint16(payload))
			f.Code = &code
		}
		return nil
	case 9, 10:
		f.Meaning = map[int]string{9: "ping", 10: "pong"}[f.Opcode]
		return nil
	default:
		return fmt.Errorf("no frame of these protocols has opcode %d", f.Opcode)
	}
	if len(payload) == 0 {
		f.Meaning = "nothing"
		return nil
	}
	channel, data := int(payload[0]), payload[1:]
	if asBase64 {
		channel -= '0'
		if data, err = base64.StdEncoding.DecodeString(string(data)); err != nil {
			return err
		}
	}
	f.Channel = &channel
	if utf8.Valid(data) {
		text := string(data)
		f.Data = &text
	}
	switch {
	case channel == 255 && len(data) == 1 && int(data[0]) < len(channelNames):
		f.Data, f.Meaning = nil, "close "+channelNames[data[0]]
	case channel >= 0 && channel < len(channelNames):
		f.Meaning = channelNames[channel]
	default:
		f.Meaning = "unknown channel"
	}
	return nil
}
