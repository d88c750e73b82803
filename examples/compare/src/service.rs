//! The service on localhost: takes any media, throws it away as it comes, and makes an agent that
//! is ready at the poll its path asks for: the 100th at `/polls-100/v1/agent/status/{agent_id}`.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{mem, thread};

/// What was asked of the service since it was asked what was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub connections: u64,
    pub generates: u64,
    pub polls: u64,
    /// The length of the bodies that came whole.
    pub received: u64,
}

pub struct Service {
    origin: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    counts: Counts,
    /// Those of the agent, of which there is one at a time.
    agent_polls: u64,
}

impl Service {
    /// Serves until the process ends.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let origin = format!("http://{}", listener.local_addr()?);
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                locked(&state).counts.connections += 1;
                // A connection that breaks off is reported by its client.
                thread::spawn(move || serve(&stream, &state));
            }
        });
        Ok(Service { origin, state })
    }

    /// Where an agent is ready at this poll.
    pub fn base_url(&self, polls: u64) -> String {
        format!("{}/polls-{polls}", self.origin)
    }

    /// What was asked since the last call of this.
    pub fn take_counts(&self) -> Counts {
        mem::take(&mut locked(&self.state).counts)
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers the requests of one connection.
fn serve(mut stream: &TcpStream, state: &Mutex<State>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(256 * 1024, stream);
    while let Some(head) = Head::read(&mut reader)? {
        if head.expects {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        discard(&mut reader, head.len)?;
        let body = {
            let mut state = locked(state);
            state.counts.received += head.len;
            if head.method == "POST" {
                state.counts.generates += 1;
                state.agent_polls = 0;
                GENERATED.into()
            } else if head.is_preflight {
                status(false)
            } else {
                state.counts.polls += 1;
                state.agent_polls += 1;
                status(state.agent_polls >= head.polls)
            }
        };
        let connection = if head.closes { "close" } else { "keep-alive" };
        let len = body.len();
        let response = format!(
            "HTTP/1.1 200 OK\r\n\
             Date: Mon, 23 Nov 2026 12:00:00 GMT\r\n\
             Content-Type: application/json\r\n\
             Content-Length: {len}\r\n\
             Connection: {connection}\r\n\
             Server: mock-server\r\n\
             X-Request-Id: 5f0c3b1e-7f5e-4a0b-9a53-0c8f1d2e3a4b\r\n\
             \r\n\
             {body}"
        );
        stream.write_all(response.as_bytes())?;
        if head.closes {
            break;
        }
    }
    Ok(())
}

/// The response to every POST.
const GENERATED: &str = r#"{"success":true,"message":"Agent generation started","agent_id":"A91XMB7113","status":"processing","data":{"file_url":"https://mock-server.invalid/model.imx"}}"#;

/// Everything the service of 2026 says about an agent.
fn status(is_ready: bool) -> String {
    let (status, event, progress, step) = if is_ready {
        ("ready", "lip_created", 1.0, "done")
    } else {
        ("generating", "started", 0.35, "voice_image")
    };
    let made = |what: &str| {
        if is_ready {
            format!(r#""https://mock-server.invalid/A91XMB7113/{what}""#)
        } else {
            "null".into()
        }
    };
    let (image, video, model) = (made("image.jpg"), made("video.mp4"), made("model.imx"));
    let percent = progress * 100.0;
    [
        r#"{"success":true,"data":{"agent_id":"A91XMB7113","#,
        &format!(r#""event_type":"{event}","status":"{status}","error_message":null,"#),
        r#""created_at":"2025-08-01T13:58:51.907177+00:00","updated_at":"2025-08-01T09:59:15.159901+00:00","#,
        r#""system_prompt":"You are a friendly assistant.","#,
        &format!(r#""image_url":{image},"video_url":{video},"name":"Mock agent","model_url":{model},"#),
        &format!(r#""progress":{progress},"progress_msg":"{step}: {percent} %","current_step":"{step}","#),
        r#""supported_models":["essence-2"]}}"#,
    ]
    .concat()
}

/// What matters of a request's head.
#[derive(Default)]
struct Head {
    method: String,
    /// How many polls the path asks for.
    polls: u64,
    /// The free request before a large upload, which is no poll.
    is_preflight: bool,
    len: u64,
    expects: bool,
    closes: bool,
}

impl Head {
    /// The next one, if the client does not end the connection instead.
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = Head::default();
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split(' ');
        head.method = words.next().unwrap_or_default().into();
        let path = words.next().unwrap_or_default();
        head.is_preflight = path.ends_with("/preflight");
        let prefix = path.split('/').nth(1).unwrap_or_default();
        head.polls = prefix
            .strip_prefix("polls-")
            .and_then(|polls| polls.parse().ok())
            .unwrap_or(1);
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            let (name, value) = (name.to_ascii_lowercase(), value.trim());
            match &*name {
                "content-length" => head.len = value.parse().map_err(io::Error::other)?,
                "transfer-encoding" => {
                    return Err(io::Error::other(
                        "only bodies of a known length are accepted",
                    ));
                }
                "expect" => head.expects = value.eq_ignore_ascii_case("100-continue"),
                "connection" => head.closes = value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        Ok(Some(head))
    }
}

fn discard(reader: &mut impl BufRead, len: u64) -> io::Result<()> {
    let mut left = len;
    while left > 0 {
        let n = left.min(reader.fill_buf()?.len() as u64);
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        reader.consume(n as usize);
        left -= n;
    }
    Ok(())
}
