//! A WebSocket peer on tungstenite. See tests/support/wsjudges.py for what it is told and what it tells.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use tungstenite::handshake::server::{Request, Response};
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::client::client_with_config;
use tungstenite::{accept_hdr_with_config, Error, Message, WebSocket};

const PROTOCOL: &str = "v4.channel.k8s.io";

fn config() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(None).max_frame_size(None)
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("serve") => serve(),
        Some("connect") => connect(&arguments[2]),
        _ => panic!("expected: serve, or connect PORT"),
    }
}

fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("{{\"port\": {}}}", listener.local_addr().expect("bound").port());
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    for stream in listener.incoming() {
        let stream = stream.expect("a connection");
        stream.set_nodelay(true).expect("an option");
        let choose = |request: &Request, mut response: Response| {
            let asked = request.headers().get("Sec-WebSocket-Protocol");
            if asked.is_some_and(|value| value == PROTOCOL) {
                response.headers_mut().insert("Sec-WebSocket-Protocol", PROTOCOL.parse().expect("a value"));
            }
            Ok(response)
        };
        match accept_hdr_with_config(stream, choose, Some(config())) {
            Ok(socket) => talk(socket),
            Err(error) => report(None, "", &error.to_string()),
        }
    }
}

fn connect(port: &str) {
    let stream = TcpStream::connect(format!("127.0.0.1:{port}")).expect("a server");
    stream.set_nodelay(true).expect("an option");
    let mut request = tungstenite::client::IntoClientRequest::into_client_request(format!("ws://127.0.0.1:{port}/"))
        .expect("a request");
    request.headers_mut().insert("Sec-WebSocket-Protocol", PROTOCOL.parse().expect("a value"));
    match client_with_config(request, stream, Some(config())) {
        Ok((socket, _)) => talk(socket),
        Err(error) => report(None, "", &error.to_string()),
    }
}

fn report(code: Option<u16>, reason: &str, error: &str) {
    let code = code.map_or("null".to_string(), |code| code.to_string());
    println!("{{\"code\": {code}, \"reason\": {reason:?}, \"error\": {error:?}}}");
    let _ = std::io::stdout().flush();
}

/// Echoes and obeys until the connection is over, and reports how it ended.
fn talk(mut socket: WebSocket<TcpStream>) {
    let mut closed: Option<(u16, String)> = None;
    let error = loop {
        let message = match socket.read() {
            Ok(message) => message,
            Err(error) => break error,
        };
        let done = match message {
            Message::Close(frame) => {
                closed = Some(frame.map_or((1005, String::new()), |f| (f.code.into(), f.reason.to_string())));
                Ok(())
            }
            Message::Pong(payload) => socket.send(Message::text(format!("pong {}", String::from_utf8_lossy(&payload)))),
            Message::Text(text) if text.starts_with('!') => obey(&mut socket, text.as_str()),
            Message::Ping(_) | Message::Frame(_) => Ok(()),
            echo => socket.send(echo),
        };
        if let Err(error) = done {
            break error;
        }
    };
    let text = match error {
        Error::ConnectionClosed => String::new(),
        other => other.to_string(),
    };
    let (code, reason) = closed.map_or((None, String::new()), |(code, reason)| (Some(code), reason));
    report(code, &reason, &text);
}

fn obey(socket: &mut WebSocket<TcpStream>, text: &str) -> Result<(), Error> {
    let words: Vec<&str> = text.splitn(3, ' ').collect();
    match words[0] {
        "!ping" => socket.send(Message::Ping(words[1].as_bytes().to_vec().into())),
        "!fragments" => {
            let (length, size): (usize, usize) = (words[1].parse().unwrap(), words[2].parse().unwrap());
            let bytes: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let mut parts = bytes.chunks(size).peekable();
            let mut opcode = OpCode::Data(Data::Binary);
            while let Some(part) = parts.next() {
                let last = parts.peek().is_none();
                socket.write(Message::Frame(Frame::message(part.to_vec(), opcode, last)))?;
                opcode = OpCode::Data(Data::Continue);
            }
            socket.flush()
        }
        "!close" => {
            let code: u16 = words[1].parse().unwrap();
            socket.close(Some(CloseFrame { code: CloseCode::from(code), reason: words[2].to_string().into() }))
        }
        "!raw" => {
            let bytes: Vec<u8> =
                (0..words[1].len()).step_by(2).map(|i| u8::from_str_radix(&words[1][i..i + 2], 16).unwrap()).collect();
            socket.get_mut().write_all(&bytes).map_err(Error::Io)
        }
        other => panic!("unknown command {other:?}"),
    }
}
