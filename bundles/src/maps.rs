//! Maps of names, with a hash that is quicker than that of the standard library. It is seeded anew in
//! every process, so that no file can be written to make them slow.

use foldhash::fast::RandomState;

/// A map by names.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;

/// A set of names.
pub(crate) type HashSet<K> = std::collections::HashSet<K, RandomState>;
