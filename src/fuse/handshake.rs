//! What the kernel and this adapter agree on when a session begins.

use fuser::{InitFlags, KernelConfig, Request};

use super::Adapter;
use crate::client::Locks;

/// The real file of a passthrough is on no stacked file system; then one may still be stacked on this mount.
const STACK_DEPTH: u32 = 1;

/// The largest single write. Larger ones arrive in pieces; the kernel's own bound is 1 MiB by default
/// (`fs.fuse.max_pages_limit`).
const MAX_WRITE: u32 = 1 << 20;

impl Adapter {
    /// Agrees with the kernel on what both can do.
    pub(super) fn greet(&self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let mut wanted = vec![
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_DONT_MASK,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
            InitFlags::FUSE_AUTO_INVAL_DATA,
        ];
        if self.client.may_look_everywhere() && self.client.believes() {
            // An ordinary user may list a directory whose entries he may not look at. And attributes that are not even
            // believed here are asked for again at once.
            wanted.extend([InitFlags::FUSE_DO_READDIRPLUS, InitFlags::FUSE_READDIRPLUS_AUTO]);
        }
        if self.client.lends() {
            wanted.push(InitFlags::FUSE_CACHE_SYMLINKS);
            if self.client.takes_privileges_away() {
                wanted.push(InitFlags::FUSE_HANDLE_KILLPRIV_V2);
            }
            let passes_through = config.set_max_stack_depth(STACK_DEPTH).is_ok()
                && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok();
            if passes_through {
                self.passthrough.enable();
            } else {
                self.client
                    .note("the kernel serves no file by itself: it is older than Linux 6.9".to_string());
            }
        }
        match self.client.shared_locks() {
            Locks::Client => {}
            Locks::Fcntl => wanted.push(InitFlags::FUSE_POSIX_LOCKS),
            Locks::Local | Locks::Shared => {
                wanted.extend([InitFlags::FUSE_POSIX_LOCKS, InitFlags::FUSE_FLOCK_LOCKS])
            }
        }
        if self.client.needs_permission_checks() {
            // Turns the kernel's own permission checks on, with ACLs.
            wanted.push(InitFlags::FUSE_POSIX_ACL);
        }
        for flag in wanted {
            // A kernel without it does without.
            let _ = config.add_capabilities(flag);
        }
        let _ = config.set_max_write(MAX_WRITE);
        let _ = config.set_max_background(64);
        Ok(())
    }
}
