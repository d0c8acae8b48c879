//! settlement/l1
