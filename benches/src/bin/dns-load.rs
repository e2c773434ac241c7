//! Asks name servers and tells how long that takes: `dns-load ROUNDS NAME SERVER:PORT...`. The servers take turns,
//! so that what else the machine does is shared. For each: the median time of one question at a time in microseconds, and
//! how many questions are answered in a second with 32 under way on one socket.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Questions of one turn.
const TURN: u32 = 200;
/// Questions under way when they are counted.
const UNDER_WAY: usize = 32;
/// How long one turn of counting takes.
const COUNTED: Duration = Duration::from_millis(100);

fn question(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

fn open(server: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok(socket)
}

/// An answer with a record; the id of the question.
fn receive(socket: &UdpSocket) -> std::io::Result<u16> {
    let mut buffer = [0; 1500];
    let length = socket.recv(&mut buffer)?;
    match buffer.get(..length) {
        Some([a, b, _, code, _, _, high, low, ..]) if code & 15 == 0 && (*high, *low) != (0, 0) => {
            Ok(u16::from_be_bytes([*a, *b]))
        }
        _ => Err(std::io::Error::other("an answer without a record")),
    }
}

fn one_at_a_time(socket: &UdpSocket, name: &str, times: &mut Vec<f64>) -> std::io::Result<()> {
    for id in 0..TURN {
        let begun = Instant::now();
        socket.send(&question(id as u16, name))?;
        receive(socket)?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok(())
}

fn many(socket: &UdpSocket, name: &str) -> std::io::Result<f64> {
    let begun = Instant::now();
    let mut answers = 0u32;
    let mut id = 0u16;
    let mut send = || {
        id = id.wrapping_add(1);
        socket.send(&question(id, name)).map(drop)
    };
    for _ in 0..UNDER_WAY {
        send()?;
    }
    while begun.elapsed() < COUNTED {
        receive(socket)?;
        answers += 1;
        send()?;
    }
    let rate = f64::from(answers) / begun.elapsed().as_secs_f64();
    for _ in 0..UNDER_WAY {
        receive(socket)?;
    }
    Ok(rate)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let rounds: u32 = words.next().ok_or("ROUNDS is missing")?.parse()?;
    let name = words.next().ok_or("NAME is missing")?;
    let servers = words
        .map(|word| word.parse())
        .collect::<Result<Vec<SocketAddr>, _>>()?;
    let sockets = servers
        .iter()
        .map(|server| open(*server))
        .collect::<Result<Vec<_>, _>>()?;
    let mut times = vec![Vec::new(); servers.len()];
    let mut rates = vec![Vec::new(); servers.len()];
    for round in 0..=rounds {
        for (index, socket) in sockets.iter().enumerate() {
            let (Some(times), Some(rates)) = (times.get_mut(index), rates.get_mut(index)) else {
                continue;
            };
            one_at_a_time(socket, &name, times)?;
            rates.push(many(socket, &name)?);
            if round == 0 {
                // The first one warms everything up.
                times.clear();
                rates.clear();
            }
        }
    }
    for ((server, mut times), mut rates) in servers.iter().zip(times).zip(rates) {
        println!(
            "{server} {:.1} {:.0}",
            median(&mut times),
            median(&mut rates)
        );
    }
    Ok(())
}
