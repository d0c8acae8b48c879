//! What a client is told that speaks plain HTTP to a TLS port, in the HTTP that it speaks.

use std::io;

use tokio::{io::AsyncWriteExt, net::TcpStream};

/// The first byte of a TLS record that holds a handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 0x16;

/// An empty SETTINGS frame, and the error of a GOAWAY frame (RFC 9113, sections 6.5, 6.8 and 7).
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const INADEQUATE_SECURITY: u32 = 0xc;
const TEXT: &str = "this port speaks TLS: use https://";

/// Whether a client begins with something else than TLS. Waits for its first bytes, which it does not take.
pub(crate) async fn speaks_plain(socket: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(socket.peek(&mut first).await? == 1 && first != [HANDSHAKE])
}

/// Says what is wrong, and closes.
pub(crate) async fn refuse(mut socket: TcpStream) -> io::Result<()> {
    let mut start = [0; 3];
    let read = socket.peek(&mut start).await?;
    if start.get(..read) == Some(b"PRI") {
        socket.write_all(&SETTINGS).await?;
        socket.write_all(&goaway()).await?;
    } else {
        let answer = format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{TEXT}\n",
            TEXT.len() + 1
        );
        socket.write_all(answer.as_bytes()).await?;
    }
    socket.shutdown().await?;
    // What the client has sent is taken, or it would be told of a reset connection instead.
    let mut rest = [0; 1024];
    for _ in 0..64 {
        socket.readable().await?;
        if matches!(socket.try_read(&mut rest), Ok(0)) {
            break;
        }
    }
    Ok(())
}

fn goaway() -> Vec<u8> {
    let length = 8 + TEXT.len() as u32;
    let [_, high, middle, low] = length.to_be_bytes();
    let mut frame = vec![high, middle, low, 7, 0, 0, 0, 0, 0];
    frame.extend(0u32.to_be_bytes());
    frame.extend(INADEQUATE_SECURITY.to_be_bytes());
    frame.extend(TEXT.as_bytes());
    frame
}
