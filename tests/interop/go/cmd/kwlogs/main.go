// kwlogs reads container logs by the kubelet's own code: for each JSON request on stdin, what ReadLogs writes, in JSON.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"os"
	"time"

	"k8s.io/cri-client/pkg/logs"
)

// request names a log file and what of it is wanted; what is left out is not asked for.
type request struct {
	File       string    `json:"file"`
	Tail       *int64    `json:"tail"`
	Limit      *int64    `json:"limit"`
	Since      time.Time `json:"since"`
	Timestamps bool      `json:"timestamps"`
	Streams    []string  `json:"streams"`
}

// answer is the text, in base64, and the error if there was one.
type answer struct {
	Text  []byte `json:"text"`
	Error string `json:"error,omitempty"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked request
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			log.Fatal(err)
		}
		if err := out.Encode(read(asked)); err != nil {
			log.Fatal(err)
		}
	}
	if err := lines.Err(); err != nil {
		log.Fatal(err)
	}
}

func read(asked request) answer {
	options := &logs.LogOptions{
		TailLines:  asked.Tail,
		LimitBytes: asked.Limit,
		Since:      asked.Since,
		Timestamp:  asked.Timestamps,
	}
	var text bytes.Buffer
	var stdout, stderr io.Writer = &text, &text
	if len(asked.Streams) == 1 {
		if asked.Streams[0] == "stdout" {
			stderr = nil
		} else {
			stdout = nil
		}
	}
	err := logs.ReadLogs(context.Background(), asked.File, "", options, nil, stdout, stderr)
	if err != nil {
		return answer{text.Bytes(), err.Error()}
	}
	return answer{Text: text.Bytes()}
}
