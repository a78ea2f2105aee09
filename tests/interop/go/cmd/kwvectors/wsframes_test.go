package main

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

// The decoder, too, must be judged by something else: the frames that RFC 6455 prints.
func TestDecoderReadsTheFramesOfTheSpecification(t *testing.T) {
	text, err := os.ReadFile("../../../../vectors/websocket.json")
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Vectors []struct {
			Name      string
			Hex       string
			ThenZeros int `json:"then_zeros"`
			Frames    []struct {
				Opcode  int
				Fin     bool
				Key     string
				Payload string
				Zeros   int
			}
		}
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	if len(document.Vectors) == 0 {
		t.Fatal("no vectors")
	}
	for _, vector := range document.Vectors {
		wire, err := hex.DecodeString(vector.Hex)
		if err != nil {
			t.Fatal(err)
		}
		wire = append(wire, make([]byte, vector.ThenZeros)...)
		for _, want := range vector.Frames {
			if want.Zeros > 0 {
				want.Payload = hex.EncodeToString(make([]byte, want.Zeros))
			}
			got, size, err := decodeFrame(wire)
			if err != nil {
				t.Fatalf("%s: %v", vector.Name, err)
			}
			if got.Opcode != want.Opcode || got.Fin != want.Fin || got.Key != want.Key || got.Payload != want.Payload ||
				got.Masked != (want.Key != "") || got.Length*2 != len(want.Payload) {
				t.Errorf("%s: expected %+v, got %+v", vector.Name, want, got)
			}
			wire = wire[size:]
		}
		if len(wire) > 0 {
			t.Errorf("%s: %d bytes are left", vector.Name, len(wire))
		}
	}
}
