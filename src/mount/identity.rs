//! What a mount is: how it is told from any other mount, and taken away.

use std::{fs, os::fd::AsFd, path::PathBuf};

use super::{
    attach::{Stuck, detach},
    foothold::link_to,
    mountinfo::{Device, Entry, MountTable},
    refusals::{self, Site},
    remote::is_mine,
    spare::Spare,
};
use crate::error::Refusal;

/// How a mount is told from any other mount for as long as its session lasts: by its numbers, because a directory above it may
/// get another name.
#[derive(Debug)]
pub struct MountIdentity {
    /// Where it was mounted.
    pub mountpoint: PathBuf,
    entry: Entry,
    spare: Spare,
}

impl MountIdentity {
    /// The identity of the mount that was made there just now, and a place for what takes it away. Asks nobody but the mount
    /// table: whoever touched the mountpoint itself would wait for a session that has not begun.
    ///
    /// # Errors
    /// The mount table does not show it.
    pub fn taken(site: &Site, spare: Spare) -> Result<MountIdentity, Refusal> {
        let by_now = fs::read_link(link_to(site.held.as_fd())).unwrap_or_default();
        let mounts = MountTable::read()?;
        let entry = mounts.top_at(&by_now).filter(|entry| entry.is_chaosfs() && is_mine(entry));
        let entry = entry.ok_or_else(|| {
            Refusal::new(format!(
                "mountpoint {}: the new mount is not in the mount table",
                site.mountpoint.display()
            ))
        })?;
        Ok(MountIdentity { mountpoint: site.mountpoint.clone(), entry: entry.clone(), spare })
    }

    /// The file system that is mounted there.
    pub fn device(&self) -> Device {
        self.entry.device
    }

    /// Takes the mount away and proves in the mount table that it is gone; whether it was there still.
    ///
    /// # Errors
    /// Says that it is busy, that something is mounted on top of it, or who refused.
    pub fn vacate(&self, lazily: bool) -> Result<bool, Stuck> {
        let Some(entry) = self.mounts()?.still(&self.entry).cloned() else { return Ok(false) };
        detach(&entry, lazily, &self.spare)?;
        match self.mounts()?.still_at(&entry) {
            false => Ok(true),
            true => Err(Stuck::Refused("the mount table still shows it".to_string())),
        }
    }

    /// Takes away what a session leaves behind that the kernel has aborted: a mount that nobody serves. One that
    /// answers is somebody else's, who got our numbers after us.
    pub fn clear(&self) {
        let Ok(mounts) = self.mounts() else { return };
        if mounts.still(&self.entry).is_some_and(|entry| refusals::answers_dead(&entry.mount_point)) {
            let _ = self.vacate(true);
        }
    }

    fn mounts(&self) -> Result<MountTable, Stuck> {
        MountTable::read().map_err(|refusal| Stuck::Refused(refusal.to_string()))
    }

    /// Takes the mount away after a failed start; there is nobody left to tell.
    pub fn give_up(&self) {
        let _ = self.vacate(true);
    }

    /// A refusal with the mountpoint in front.
    pub fn named(&self, refusal: &Refusal) -> Refusal {
        Refusal::new(format!("{}: {refusal}", self.mountpoint.display()))
    }

    /// Why it could not be unmounted, for a person.
    pub fn refusal(&self, stuck: &Stuck) -> Refusal {
        let reason = match stuck {
            Stuck::Busy => "busy: a program has a file or its working directory there",
            Stuck::Refused(reason) => reason,
        };
        Refusal::new(format!("mountpoint {}: cannot unmount: {reason}", self.mountpoint.display()))
    }
}
