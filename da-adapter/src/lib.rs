//! da-adapter
