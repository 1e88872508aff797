//! A backing directory that does not tell the types of its entries (`DT_UNKNOWN`), as xfs without `ftype`, ext4 without
//! `filetype` and some network file systems do not: a file system of this test's own, which speaks just enough of the
//! FUSE protocol (linux/fuse.h).

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::fd::AsRawFd,
    path::Path,
    thread,
};

use nix::mount::{MsFlags, mount};

use crate::sandbox::{Sandbox, as_root, run};

const DIRECTORY: u32 = 0o040_755;
/// The root and what is in it: number, name, mode.
const ENTRIES: [(u64, &str, u32); 4] =
    [(1, ".", DIRECTORY), (2, "directory", DIRECTORY), (3, "file", 0o100_644), (4, "link", 0o120_777)];

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const READLINK: u32 = 5;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const BATCH_FORGET: u32 = 42;

const ENOENT: i32 = 2;
const ENODEV: i32 = 19;
const ENOSYS: i32 = 38;

/// Mounts the file system and serves it until it is unmounted.
fn serve(mountpoint: &Path) {
    let device = File::options().read(true).write(true).open("/dev/fuse").expect("/dev/fuse");
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("untyped"), mountpoint, Some("fuse"), flags, Some(options.as_str())).expect("a mount");
    thread::spawn(move || {
        let mut request = vec![0; 1 << 20];
        loop {
            let length = match (&device).read(&mut request) {
                Ok(length) => length,
                Err(error) if error.raw_os_error() == Some(ENODEV) => return,
                Err(_) => continue,
            };
            let operation = number(&request, 4);
            if ![FORGET, BATCH_FORGET].contains(&operation) {
                let _ = (&device).write_all(&reply(operation, &request[..length]));
            }
        }
    });
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn wide(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn reply(operation: u32, request: &[u8]) -> Vec<u8> {
    let (unique, ino, body) = (wide(request, 8), wide(request, 16), &request[40..]);
    let answer = match operation {
        INIT => Ok(init()),
        LOOKUP => look_up(ino, body),
        GETATTR => Ok([vec![0; 16], attributes(ino)].concat()),
        READLINK => Ok(b"file".to_vec()),
        OPENDIR => Ok(vec![0; 16]),
        READDIR => Ok(listing(ino, wide(body, 8))),
        RELEASEDIR => Ok(Vec::new()),
        _ => Err(ENOSYS),
    };
    let (error, data) = answer.map_or_else(|errno| (-errno, Vec::new()), |data| (0, data));
    let length = 16 + data.len() as u32;
    [&length.to_ne_bytes()[..], &error.to_ne_bytes(), &unique.to_ne_bytes(), &data].concat()
}

/// `struct fuse_init_out` of protocol 7.31, with no capabilities.
fn init() -> Vec<u8> {
    let mut answer = [7u32, 31, 0, 0, 0, 4096].map(u32::to_ne_bytes).concat();
    answer.resize(64, 0);
    answer
}

fn look_up(directory: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
    let name = body.strip_suffix(b"\0").unwrap_or(body);
    let found = ENTRIES[1..].iter().find(|(_, other, _)| directory == 1 && other.as_bytes() == name);
    let (ino, ..) = found.ok_or(ENOENT)?;
    Ok([ino.to_ne_bytes().to_vec(), vec![0; 32], attributes(*ino)].concat())
}

/// `struct fuse_attr`.
fn attributes(ino: u64) -> Vec<u8> {
    let (.., mode) = ENTRIES.iter().find(|(other, ..)| *other == ino).expect("a number that was given out");
    let times = [0; 36];
    let rest = [*mode, 1, 0, 0, 0, 4096, 0].map(u32::to_ne_bytes).concat();
    [&ino.to_ne_bytes()[..], &4u64.to_ne_bytes(), &0u64.to_ne_bytes(), &times, &rest].concat()
}

/// `struct fuse_dirent`, one for each entry from `offset` on, all of type `DT_UNKNOWN`.
fn listing(ino: u64, offset: u64) -> Vec<u8> {
    let entries = if ino == 1 { &ENTRIES[..] } else { &ENTRIES[..1] };
    let numbered = entries.iter().zip(1u64..).skip(offset as usize);
    let dirent = |((ino, name, _), next): (&(u64, &str, u32), u64)| {
        let (length, unknown) = ((name.len() as u32).to_ne_bytes(), 0u32.to_ne_bytes());
        let mut bytes =
            [&ino.to_ne_bytes()[..], &next.to_ne_bytes(), &length, &unknown, name.as_bytes()].concat();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    numbered.flat_map(dirent).collect()
}

#[test]
fn entries_whose_type_is_not_told_are_asked_for_it() {
    if !as_root("untyped::entries_whose_type_is_not_told_are_asked_for_it") {
        return;
    }
    let sandbox = Sandbox::for_mounting();
    serve(&sandbox.path("shared"));
    // A client that believes nothing lists without attributes.
    let said = sandbox.mount("a", &["--meta-ttl", "0"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let mut listed: Vec<(String, bool, bool)> = fs::read_dir(sandbox.path("a"))
        .expect("a directory")
        .map(|entry| {
            let entry = entry.expect("an entry");
            let kind = entry.file_type().expect("a type");
            (entry.file_name().into_string().expect("UTF-8"), kind.is_dir(), kind.is_symlink())
        })
        .collect();
    listed.sort();
    let entry = |name: &str, is_directory, is_link| (name.to_string(), is_directory, is_link);
    let expected = [entry("directory", true, false), entry("file", false, false), entry("link", false, true)];
    assert_eq!(listed, expected);
    let said = run(&mut sandbox.chaosfs(&["umount", "-m", "a"]));
    assert_eq!(said.code, Some(0), "{}", said.err);
}
