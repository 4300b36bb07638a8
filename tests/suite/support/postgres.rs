//! A private PostgreSQL for one test.
