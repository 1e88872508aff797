//! What is mounted where, as the kernel tells it in `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).

use std::{
    ffi::OsString,
    fmt, fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use crate::error::Refusal;

/// The file system type that every chaosfs mount shows.
pub const FS_TYPE: &str = "fuse.chaosfs";

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// The device number of a mounted file system; no two mounts that exist at the same time share one by accident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// The major number; 0 for file systems without a disk of their own.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// A directory as its file system knows it, whatever path leads there: the same through every bind mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file system.
    pub device: Device,
    /// The path from the root of that file system.
    pub path: PathBuf,
}

impl Place {
    /// Whether it is `outer` or lies below it.
    pub fn is_within(&self, outer: &Place) -> bool {
        self.device == outer.device && self.path.starts_with(&outer.path)
    }
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The number of this mount.
    pub id: u64,
    /// The number of the mount it is mounted on.
    pub parent: u64,
    /// The mounted file system.
    pub device: Device,
    /// The directory of that file system that is seen at the mount point.
    pub root: PathBuf,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// The file system type, such as `ext4` or `fuse.chaosfs`.
    pub fs_type: String,
    /// What was mounted; for a chaosfs mount its client id.
    pub source: String,
    /// The user who made it, where the file system type tells (FUSE does).
    pub owner: Option<u32>,
}

impl Entry {
    /// Whether a chaosfs client is, or was, behind it.
    pub fn is_chaosfs(&self) -> bool {
        self.fs_type == FS_TYPE
    }

    fn is_of_same_client(&self, other: &Entry) -> bool {
        let named = |entry: &Entry| (entry.device, entry.owner);
        named(self) == named(other) && self.fs_type == other.fs_type && self.source == other.source
    }

    fn parse(line: &str) -> Option<Entry> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ');
        let (id, parent) = (mount.next()?.parse().ok()?, mount.next()?.parse().ok()?);
        let (major, minor) = mount.next()?.split_once(':')?;
        let device = Device { major: major.parse().ok()?, minor: minor.parse().ok()? };
        let (root, mount_point) = (unescaped(mount.next()?), unescaped(mount.next()?));
        let mut file_system = file_system.split(' ');
        let (fs_type, source) = (file_system.next()?, file_system.next()?);
        let owner = file_system.next()?.split(',').find_map(|option| option.strip_prefix("user_id="));
        Some(Entry {
            id,
            parent,
            device,
            root: root.into(),
            mount_point: mount_point.into(),
            fs_type: unescaped(fs_type).to_string_lossy().into_owned(),
            source: unescaped(source).to_string_lossy().into_owned(),
            owner: owner.and_then(|owner| owner.parse().ok()),
        })
    }
}

/// All mounts that this process sees.
#[derive(Clone, Debug, Default)]
pub struct MountTable(Vec<Entry>);

impl MountTable {
    /// Reads the table as it is now.
    ///
    /// # Errors
    /// Says that `/proc` cannot be read: chaosfs needs it.
    pub fn read() -> Result<MountTable, Refusal> {
        let text = fs::read(MOUNTINFO).map_err(|error| {
            Refusal::new(format!("{MOUNTINFO}: {error}; chaosfs needs /proc to see what is mounted"))
        })?;
        Ok(MountTable::parse(&as_text(&text)))
    }

    /// Reads the text of a mountinfo file; lines of another form are skipped.
    pub fn parse(text: &str) -> MountTable {
        MountTable(text.lines().filter_map(Entry::parse).collect())
    }

    /// The mount that is seen at this mount point: of several on top of each other, the topmost.
    pub fn top_at(&self, mount_point: &Path) -> Option<&Entry> {
        let here = || self.0.iter().filter(|entry| entry.mount_point == mount_point);
        here().find(|entry| !here().any(|other| other.parent == entry.id && other.id != entry.id))
    }

    /// The same mount, wherever it is by now. Once it is gone its numbers are given out again, to any file system: so it
    /// must be one of the same client and user, too.
    pub fn still(&self, entry: &Entry) -> Option<&Entry> {
        self.showing(entry.id, entry)
    }

    /// Whether the same mount is still in the same place.
    pub fn still_at(&self, entry: &Entry) -> bool {
        self.still(entry).is_some_and(|now| now.mount_point == entry.mount_point)
    }

    /// The mount with this number if it shows the same client as `entry` does.
    pub fn showing(&self, id: u64, entry: &Entry) -> Option<&Entry> {
        self.0.iter().find(|other| other.id == id && other.is_of_same_client(entry))
    }

    /// Whether it lies on another mount, which is seen in its place once it is gone.
    pub fn covers_another(&self, entry: &Entry) -> bool {
        let below = self.0.iter().find(|other| other.id == entry.parent && other.id != entry.id);
        below.is_some_and(|below| below.mount_point == entry.mount_point)
    }

    /// Another mount point at which the same file system is seen.
    pub fn elsewhere(&self, entry: &Entry) -> Option<&Path> {
        let same = |other: &&Entry| other.device == entry.device && other.mount_point != entry.mount_point;
        self.0.iter().find(same).map(|other| other.mount_point.as_path())
    }

    /// Every chaosfs mount, once however often it is seen, in the order of mount points.
    pub fn chaosfs(&self) -> impl Iterator<Item = &Entry> {
        let mut found: Vec<&Entry> = self.0.iter().filter(|entry| entry.is_chaosfs()).collect();
        found.sort_by_key(|entry| (&entry.mount_point, entry.id));
        let mut seen: Vec<Device> = Vec::new();
        found.retain(|entry| {
            let is_new = !seen.contains(&entry.device);
            seen.extend(is_new.then_some(entry.device));
            is_new
        });
        found.into_iter()
    }

    /// Every chaosfs mount directly below `folder`.
    pub fn chaosfs_below<'a>(&'a self, folder: &'a Path) -> impl Iterator<Item = &'a Entry> {
        self.chaosfs().filter(move |entry| entry.mount_point.parent() == Some(folder))
    }

    /// Every mount below `folder`, however deep; the folder itself is not below.
    pub fn below<'a>(&'a self, folder: &'a Path) -> impl Iterator<Item = &'a Entry> {
        self.0
            .iter()
            .filter(move |entry| entry.mount_point.starts_with(folder) && entry.mount_point != folder)
    }

    /// Where a canonical path lies, whatever bind mount it leads through.
    pub fn place_of(&self, path: &Path) -> Option<Place> {
        let holder = path.ancestors().find_map(|ancestor| self.top_at(ancestor))?;
        let inside = path.strip_prefix(&holder.mount_point).ok()?;
        Some(Place { device: holder.device, path: joined(&holder.root, inside) })
    }

    /// Every place that is reached from a canonical path downwards: itself and what is mounted below it.
    pub fn places_below(&self, path: &Path) -> Vec<Place> {
        let below = self.below(path).map(|entry| Place { device: entry.device, path: entry.root.clone() });
        self.place_of(path).into_iter().chain(below).collect()
    }
}

/// `Path::join` with an empty path would append a slash that `starts_with` does not see but people do.
fn joined(root: &Path, inside: &Path) -> PathBuf {
    if inside.as_os_str().is_empty() { root.to_path_buf() } else { root.join(inside) }
}

/// Mount points are bytes: whatever is not ASCII is escaped as the kernel escapes blanks.
fn as_text(table: &[u8]) -> String {
    let escape = |byte: &u8| match byte.is_ascii() {
        true => char::from(*byte).to_string(),
        false => format!("\\{byte:03o}"),
    };
    table.iter().map(escape).collect()
}

/// Undoes the kernel's octal escapes and ours: blank, tab, newline, backslash and `#` are written as `\ooo`.
fn unescaped(text: &str) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        match octal(rest) {
            Some(byte) => (bytes.push(byte), rest = &rest[4..]),
            None => (bytes.push(first), rest = tail),
        };
    }
    OsString::from_vec(bytes)
}

fn octal(text: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(text.strip_prefix(b"\\")?.get(..3)?).ok()?;
    u8::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
40 22 0:50 / /mnt/a\\040b rw,nosuid shared:9 master:2 - fuse.chaosfs alice rw,user_id=1000,group_id=1000
41 22 8:1 /srv/data /mnt/bind rw - ext4 /dev/sda1 rw
42 22 8:17 / /srv/data/disk rw - xfs /dev/sdb1 rw
43 40 0:51 / /mnt/a\\040b rw - fuse.chaosfs bob rw,user_id=0,group_id=0
garbage
";

    fn place(minor: u32, path: &str) -> Place {
        Place { device: Device { major: 8, minor }, path: path.into() }
    }

    #[test]
    fn a_line_gives_its_fields_with_or_without_optional_ones() {
        let table = MountTable::parse(TABLE);
        let alice = table.0.iter().find(|entry| entry.id == 40).unwrap();
        assert!(alice.is_chaosfs());
        assert_eq!(
            (alice.source.as_str(), alice.owner, alice.id, alice.parent),
            ("alice", Some(1000), 40, 22)
        );
        let bind = table.top_at(Path::new("/mnt/bind")).unwrap();
        assert_eq!((bind.root.as_path(), bind.owner), (Path::new("/srv/data"), None));
        assert_eq!((table.elsewhere(bind), table.elsewhere(alice)), (Some(Path::new("/")), None));
        let bob = table.top_at(Path::new("/mnt/a b")).unwrap();
        assert!(table.covers_another(bob) && !table.covers_another(alice));
        assert_eq!(table.0.len(), 5);
    }

    #[test]
    fn a_mount_is_the_same_under_another_path_and_another_one_with_its_numbers_is_not() {
        let table = MountTable::parse(TABLE);
        let bob = table.top_at(Path::new("/mnt/a b")).unwrap();
        let later = |from: &str, to: &str| MountTable::parse(&TABLE.replace(from, to)).still(bob).cloned();
        assert_eq!(later("/mnt/a\\040b", "/mnt/c").unwrap().mount_point, Path::new("/mnt/c"));
        for (from, to) in
            [("bob", "eve"), ("user_id=0", "user_id=7"), ("fuse.chaosfs bob", "tmpfs bob"), ("43 ", "44 ")]
        {
            assert_eq!(later(from, to), None, "{from}");
        }
    }

    #[test]
    fn of_stacked_mounts_the_top_is_seen_whatever_their_order() {
        let backwards: Vec<&str> = TABLE.lines().rev().collect();
        for text in [TABLE.to_string(), backwards.join("\n")] {
            assert_eq!(MountTable::parse(&text).top_at(Path::new("/mnt/a b")).unwrap().source, "bob");
        }
    }

    #[test]
    fn bind_mounts_lead_to_the_same_place() {
        let table = MountTable::parse(TABLE);
        assert_eq!(table.place_of(Path::new("/mnt/bind/x/y")), Some(place(1, "/srv/data/x/y")));
        assert_eq!(table.place_of(Path::new("/srv/data/x/y")), Some(place(1, "/srv/data/x/y")));
        assert_eq!(table.place_of(Path::new("/mnt/bind")), Some(place(1, "/srv/data")));
        assert!(place(1, "/srv/data/x").is_within(&place(1, "/srv/data")));
        assert!(!place(1, "/srv/database").is_within(&place(1, "/srv/data")));
    }

    #[test]
    fn what_is_mounted_below_belongs_to_what_a_path_reaches() {
        let table = MountTable::parse(TABLE);
        assert_eq!(table.places_below(Path::new("/srv/data")), [place(1, "/srv/data"), place(17, "/")]);
        assert_eq!(table.places_below(Path::new("/srv/data/disk")), [place(17, "/")]);
    }

    #[test]
    fn chaosfs_mounts_directly_below_a_folder_are_found_and_no_others() {
        let table = MountTable::parse(TABLE);
        let sources: Vec<_> =
            table.chaosfs_below(Path::new("/mnt")).map(|entry| entry.source.as_str()).collect();
        assert_eq!(sources, ["alice", "bob"]);
        assert_eq!(table.chaosfs_below(Path::new("/")).count(), 0);
    }

    #[test]
    fn a_mount_point_that_is_not_text_is_found() {
        let table = MountTable::parse(&as_text(
            b"40 22 0:50 / /mnt/\xff\xc3\xa9 rw - fuse.chaosfs alice rw,user_id=0\n",
        ));
        assert_eq!(table.0[0].mount_point.as_os_str().as_encoded_bytes(), b"/mnt/\xff\xc3\xa9");
    }

    #[test]
    fn octal_escapes_are_undone_and_other_backslashes_stay() {
        assert_eq!(unescaped(r"a\040b\011c\134d\012"), "a b\tc\\d\n");
        assert_eq!(unescaped(r"\04 \x"), r"\04 \x");
        assert_eq!(unescaped("\\303\\251"), "é");
    }
}
