UPDATE meta SET jobs = jobs - ?;
