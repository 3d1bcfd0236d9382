UPDATE claim SET until = ? WHERE number = ?;
