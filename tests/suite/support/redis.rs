//! A private Redis for one test.
