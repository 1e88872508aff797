//! Hash tables for our own keys: inode numbers, names, mutations' things. Looking one up must cost little next to a
//! system call, and a program that crafts colliding names slows down nobody but itself.

use foldhash::fast::FixedState;

/// The same hashes in every run.
pub type Hasher = FixedState;

/// A table of values by such a key.
pub type HashMap<K, V> = std::collections::HashMap<K, V, Hasher>;

/// A table of such keys.
pub type HashSet<K> = std::collections::HashSet<K, Hasher>;
