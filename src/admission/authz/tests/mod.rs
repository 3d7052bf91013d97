mod decisions;
mod growth;
mod oracle;
