// Command kwvectors writes the golden bytes of tests/vectors: frames as spdystream's framer writes them, and whole exec
// dialogues of client-go's executors with cri-streaming's server, over SPDY and over WebSocket. What the bytes mean is
// written beside them, never by the code under test.
//
//	kwvectors -out DIR                   write DIR/frames.json and DIR/dialogues.json (tests/vectors/spdystream)
//	kwvectors -out DIR -only frames      one of them: frames or dialogues
//	kwvectors -out DIR -only websocket   write DIR/websocket-dialogues.json (tests/vectors)
//
// Frames come out the same each time. Dialogues do not: they hold port numbers, masks, and the order of the frames that
// end a connection, which is the scheduler's.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"log"
	"os"
	"path/filepath"
	"runtime/debug"
)

// document is one file.
type document struct {
	Source    string   `json:"source"`
	Vectors   []vector `json:"vectors,omitempty"`
	Dialogues any      `json:"dialogues,omitempty"`
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("kwvectors: ")
	folder := flag.String("out", "", "folder to write to")
	only := flag.String("only", "", "frames, dialogues or websocket; the first two when empty")
	flag.Parse()
	if *folder == "" || flag.NArg() > 0 {
		log.Print("expected -out DIR and nothing else")
		os.Exit(2)
	}
	switch *only {
	case "":
		check(frames(*folder))
		check(dialogues(*folder))
	case "frames":
		check(frames(*folder))
	case "dialogues":
		check(dialogues(*folder))
	case "websocket":
		check(webSockets(*folder))
	default:
		log.Printf("-only: expected frames, dialogues or websocket, got %q", *only)
		os.Exit(2)
	}
}

func frames(folder string) error {
	vectors, err := frameVectors()
	if err != nil {
		return err
	}
	return write(folder, "frames.json", document{Source: versions("github.com/moby/spdystream"), Vectors: vectors})
}

func dialogues(folder string) error {
	captured, err := captureDialogues()
	if err != nil {
		return err
	}
	return write(folder, "dialogues.json", document{
		Source:    versions("k8s.io/client-go", "k8s.io/cri-streaming", "k8s.io/streaming", "github.com/moby/spdystream"),
		Dialogues: captured,
	})
}

func webSockets(folder string) error {
	captured, err := captureWebSockets()
	if err != nil {
		return err
	}
	return write(folder, "websocket-dialogues.json", document{
		Source: versions("k8s.io/client-go", "k8s.io/apiserver", "k8s.io/cri-streaming", "k8s.io/streaming",
			"github.com/gorilla/websocket", "golang.org/x/net"),
		Dialogues: captured,
	})
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func write(folder, name string, content document) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(content); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, name), text.Bytes(), 0o644)
}

// versions names the modules as they were linked into this program.
func versions(paths ...string) string {
	var text string
	info, _ := debug.ReadBuildInfo()
	for _, path := range paths {
		for _, module := range info.Deps {
			if module.Path == path {
				if text != "" {
					text += ", "
				}
				text += path + " " + module.Version
			}
		}
	}
	return text
}
