//! The test of `test.sh`, in Rust: `cargo run --example race -- 200` runs it 200 times and prints what came of each.

use std::{env, error::Error, fs, path::Path, time::Duration};

use chaosfs::Clients;

/// The program: takes a job with mkdir, as on a local disk, where that is safe. Says who has it.
fn take<'a>(shared: &Path, worker: &'a str) -> Option<&'a str> {
    fs::create_dir(shared.join("job")).ok()?;
    fs::write(shared.join("job/owner"), worker).ok()?;
    Some(worker)
}

fn outcome() -> Result<String, Box<dyn Error>> {
    let clients = Clients::builder().clients(2).manual_clock().mount()?;
    let workers = [("A", "one"), ("B", "two")];
    let given: Vec<_> =
        workers.iter().filter_map(|(host, worker)| take(clients[*host].mountpoint(), worker)).collect();
    clients.advance(Duration::from_secs(2))?;
    let owner = fs::read_to_string(clients.backing().join("job/owner"))?;
    Ok(format!("given to: {} - in the end it is the job of {owner}", given.join(" ")))
}

fn main() -> Result<(), Box<dyn Error>> {
    let times: u32 = env::args().nth(1).map_or(Ok(1), |times| times.parse())?;
    for _ in 0..times {
        println!("{}", outcome()?);
    }
    Ok(())
}
