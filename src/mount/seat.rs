//! Where a mount sits: how it is told from any other mount on the same path, and taken away.

use std::path::{Path, PathBuf};

use super::{
    attach::{Stuck, detach},
    mountinfo::{Device, MountTable},
    refusals,
};
use crate::error::Refusal;

/// Where a mount sits and how it is told from any other mount on the same path, as long as its session lasts.
#[derive(Debug)]
pub struct Seat {
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// The file system that is mounted there.
    pub device: Device,
}

impl Seat {
    /// The seat of the mount that was made at `mountpoint` just now. Asks nobody but the mount table: whoever
    /// touched the mountpoint itself would wait for a session that has not begun.
    ///
    /// # Errors
    /// The mount table does not show it.
    pub fn taken(mountpoint: &Path) -> Result<Seat, Refusal> {
        let mounts = MountTable::read()?;
        let entry = mounts.top_at(mountpoint).filter(|entry| entry.is_chaosfs());
        let entry = entry.ok_or_else(|| {
            Refusal::new(format!(
                "mountpoint {}: the new mount is not in the mount table",
                mountpoint.display()
            ))
        })?;
        Ok(Seat { mountpoint: mountpoint.to_path_buf(), device: entry.device })
    }

    /// Takes the mount away and proves in the mount table that it is gone; whether it was there still.
    ///
    /// # Errors
    /// Says that it is busy, that something is mounted on top of it, or who refused.
    pub fn vacate(&self, lazily: bool) -> Result<bool, Stuck> {
        let mounts = self.mounts()?;
        if mounts.find(self.device, &self.mountpoint).is_none() {
            return Ok(false);
        }
        if mounts.top_at(&self.mountpoint).is_none_or(|top| top.device != self.device) {
            return Err(Stuck::Refused("something else is mounted on top of it".to_string()));
        }
        detach(&self.mountpoint, lazily)?;
        match self.mounts()?.find(self.device, &self.mountpoint) {
            None => Ok(true),
            Some(_) => Err(Stuck::Refused("the mount table still shows it".to_string())),
        }
    }

    /// Takes away what a session leaves behind that the kernel has aborted: a mount that nobody serves. One that
    /// answers is somebody else's, who got our device number after us.
    pub fn clear(&self) {
        let here = self.mounts().is_ok_and(|mounts| mounts.find(self.device, &self.mountpoint).is_some());
        if here && refusals::answers_dead(&self.mountpoint) {
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
