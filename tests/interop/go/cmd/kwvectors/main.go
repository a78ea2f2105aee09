// Command kwvectors writes the golden bytes of tests/vectors/spdystream: frames as spdystream's framer writes them,
// and whole exec dialogues between client-go's executor and cri-streaming's server. What the bytes mean is written
// beside them, decoded by spdystream's framer, never by the code under test.
//
//	kwvectors -out DIR            write DIR/frames.json and DIR/dialogues.json
//	kwvectors -out DIR -only frames
//
// Frames come out the same each time. Dialogues do not: they hold port numbers, and the order of the frames that end
// a connection is the scheduler's.
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
	Source    string     `json:"source"`
	Vectors   []vector   `json:"vectors,omitempty"`
	Dialogues []dialogue `json:"dialogues,omitempty"`
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("kwvectors: ")
	folder := flag.String("out", "", "folder to write to")
	only := flag.String("only", "", "frames or dialogues; both when empty")
	flag.Parse()
	if *folder == "" || flag.NArg() > 0 {
		log.Print("expected -out DIR and nothing else")
		os.Exit(2)
	}
	if *only != "dialogues" {
		vectors, err := frameVectors()
		check(err)
		check(write(*folder, "frames.json", document{
			Source: versions("github.com/moby/spdystream"), Vectors: vectors,
		}))
	}
	if *only != "frames" {
		dialogues, err := captureDialogues()
		check(err)
		check(write(*folder, "dialogues.json", document{
			Source:    versions("k8s.io/client-go", "k8s.io/cri-streaming", "k8s.io/streaming", "github.com/moby/spdystream"),
			Dialogues: dialogues,
		}))
	}
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
