mod decisions;
mod oracle;
