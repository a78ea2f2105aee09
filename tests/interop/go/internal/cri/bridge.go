package cri

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// callTime bounds one call: a runtime that makes a container on a busy machine needs seconds.
const callTime = 2 * time.Minute

// Bridge carries out calls of the container runtime interface that are given as JSON.
type Bridge struct {
	Runtime runtimeapi.RuntimeServiceClient
	conn    *grpc.ClientConn
}

// Dial prepares calls to the runtime that listens, or soon will, on this Unix socket.
func Dial(socket string) (*Bridge, error) {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return &Bridge{Runtime: runtimeapi.NewRuntimeServiceClient(conn), conn: conn}, nil
}

// Request is a line of stdin: a method such as RuntimeService/RunPodSandbox, and its message in protobuf's JSON.
type Request struct {
	Method  string          `json:"method"`
	Request json.RawMessage `json:"request"`
}

// Reply is the line that answers it: one of the two.
type Reply struct {
	Response json.RawMessage `json:"response,omitempty"`
	Error    string          `json:"error,omitempty"`
}

// Answer carries out one line. Whatever goes wrong is part of the reply.
func (b *Bridge) Answer(line string) Reply {
	response, err := b.call(line)
	if err != nil {
		return Reply{Error: err.Error()}
	}
	return Reply{Response: response}
}

func (b *Bridge) call(line string) (json.RawMessage, error) {
	var request Request
	if err := json.Unmarshal([]byte(line), &request); err != nil {
		return nil, err
	}
	owner, name, _ := strings.Cut(request.Method, "/")
	service := protoreflect.FullName("runtime.v1." + owner)
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(service.Append(protoreflect.Name(name)))
	if err != nil {
		return nil, err
	}
	method, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, fmt.Errorf("expected SERVICE/METHOD of the container runtime interface, got %q", request.Method)
	}
	in, err := message(method.Input())
	if err != nil {
		return nil, err
	}
	out, err := message(method.Output())
	if err != nil {
		return nil, err
	}
	if err := protojson.Unmarshal(request.Request, in); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	if err := b.conn.Invoke(ctx, "/"+string(service)+"/"+name, in, out, grpc.WaitForReady(true)); err != nil {
		return nil, fmt.Errorf("%s: %s", status.Code(err), status.Convert(err).Message())
	}
	return protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(out)
}

func message(of protoreflect.MessageDescriptor) (proto.Message, error) {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(of.FullName())
	if err != nil {
		return nil, err
	}
	return kind.New().Interface(), nil
}
